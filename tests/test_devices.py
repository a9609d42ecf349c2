"""The loops leave no tensor on the CPU, shown on a machine without a GPU: by torch's meta device.

It computes shapes alone, and refuses to mix its tensors with those of the CPU.
"""

import pytest
import torch
from conftest import capped

import common
import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan

SCRIPTS = (
    exp_curve_gan, sine_gan, multiples_of_five_gan, wgan, digits_gan, dcgan, conditional_gan,
    cycle_gan, table_gan, fashion_classifier,
)  # fmt: skip


class Evaluated(Exception):
    """The loop has come to its first evaluation."""


@pytest.fixture(autouse=True)
def meta(monkeypatch):
    """Let scripts train on the meta device, where fused optimizers are not to be had."""
    monkeypatch.setattr(common, "choose_device", lambda _: torch.device("meta"))
    for script in SCRIPTS:
        monkeypatch.setattr(script, "Adam", without_fused)


def without_fused(*arguments, **settings):
    return torch.optim.Adam(*arguments, **settings | {"fused": False})


@pytest.mark.parametrize(
    ("script", "data"),
    [
        (exp_curve_gan, torch.rand(100, 2)),
        (sine_gan, torch.rand(100, 3)),
        (wgan, torch.rand(100, 2)),
        (table_gan, torch.rand(100, 3)),
        (multiples_of_five_gan, common.one_hot_encode(torch.arange(100), 100)),
        (digits_gan, torch.rand(100, 784)),
        (dcgan, torch.rand(100, 784)),
        (conditional_gan, torch.cat([torch.rand(100, 784), torch.eye(10).repeat(10, 1)], dim=1)),
        (cycle_gan, torch.rand(100, 2 * 784)),
    ],
)
def test_the_loop_of_a_gan(script, data, monkeypatch):
    def evaluate(_, generator, noise, d_loss, g_loss, *discriminator):
        opinions = [
            network(torch.zeros(4, data.shape[1], device="meta")) for network in discriminator
        ]
        tensors = [generator(noise), d_loss, g_loss, *opinions, *generator.parameters()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        raise Evaluated

    capped(monkeypatch, script)
    monkeypatch.setattr(common.Training, "evaluate", evaluate)
    with pytest.raises(Evaluated):
        script.train(data, device="meta", progress=False)


def test_the_loop_of_the_classifier(monkeypatch):
    """Its evaluation asks for numbers, which meta tensors do not have: they are all 0 here."""

    def item(tensor):
        if tensor.device.type == "cpu":  # the optimizer's count of steps
            return tensor.tolist()
        asked.append(tensor.shape)
        return 0.0

    def note(_, __, ___, classifier):
        assert {tensor.device.type for tensor in classifier.parameters()} == {"meta"}
        raise Evaluated

    asked: list[torch.Size] = []
    monkeypatch.setattr(torch.Tensor, "item", item)
    monkeypatch.setattr(common.Outcome, "note", note)
    with pytest.raises(Evaluated):
        fashion_classifier.train(torch.rand(50, 784), torch.arange(50) % 10, progress=False)
    assert len(asked) == 3  # training loss, validation loss and accuracy
