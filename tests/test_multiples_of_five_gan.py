"""multiples_of_five_gan.py: integers, its own and others."""

import pytest
import torch
from conftest import DEVICES, seeded

import common
import multiples_of_five_gan as script


def test_real_samples_are_one_hot_multiples_of_five():
    rows = script.real_samples(2000)
    assert rows.shape == (2000, 100)
    assert (rows.sum(dim=1) == 1).all()
    assert set(common.one_hot_decode(rows).tolist()) == set(range(0, 100, 5))


@pytest.mark.parametrize("device", DEVICES)
def test_a_few_epochs_find_the_integers(device):
    training = script.train(
        script.real_samples(1024, seeded(0)), device=device, epochs=8, progress=False
    )
    rows = training.generator(torch.randn(5000, script.LATENT_DIM))
    assert (rows.sum(dim=1) == 1).all()
    integers = common.one_hot_decode(rows)
    assert (integers % 5 == 0).float().mean() > 0.9
    assert len(integers.unique()) >= 20


def test_learns_other_integers_of_another_depth():
    integers = torch.tensor([1, 2, 7])
    data = common.one_hot_encode(integers.repeat(200), 8)
    training = script.train(data, epochs=10, progress=False)
    counts = common.one_hot_decode(training.generator(torch.randn(3000, 8))).bincount(minlength=8)
    assert counts[integers].sum() > 0.95 * 3000
    assert counts[integers].min() > 0.2 * 3000
