"""The loops leave no tensor on the CPU: shown without a GPU, on torch's meta device.

It computes only shapes, and refuses to mix its tensors with those of the CPU.
"""

import pytest
import torch
from conftest import GANS, capped, name_of, own_data

import common


class Evaluated(Exception):
    """The loop has reached its first evaluation."""


@pytest.mark.parametrize("script", GANS, ids=name_of)
def test_a_loop_keeps_to_its_device(script, data_dir, monkeypatch):
    def evaluate(_, generator, noise, d_loss, g_loss, *__):
        tensors = [generator(noise), d_loss, g_loss, *generator.parameters()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        raise Evaluated

    capped(monkeypatch, script)
    monkeypatch.setattr(common, "choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(script, "Adam", lambda *given, **_: torch.optim.Adam(*given))  # not fused
    monkeypatch.setattr(common.Training, "evaluate", evaluate)
    with pytest.raises(Evaluated):
        script.train(*own_data(script, data_dir), progress=False)
