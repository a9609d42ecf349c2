"""A GPU, or stand-ins: torch's meta device, which refuses tensors of the CPU, and a mock."""

from unittest.mock import MagicMock

import pytest
import torch
from helpers import DEVICES, GANS, SCRIPTS, capped, needs_cuda, own_data

import common
import sine_gan


@pytest.mark.parametrize("script", GANS)
def test_a_loop_keeps_to_its_device(script, data_dir, monkeypatch):
    def evaluate(_, generator, noise, d_loss, g_loss, *__):
        tensors = [generator(noise), d_loss, g_loss, *generator.parameters()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        raise NotImplementedError("the loop reached its first evaluation")

    capped(monkeypatch, script)
    monkeypatch.setattr(common, "choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(script, "Adam", lambda *given, **_: torch.optim.Adam(*given))  # not fused
    monkeypatch.setattr(common.Training, "evaluate", evaluate)
    with pytest.raises(NotImplementedError, match="first evaluation"):
        script.train(*own_data(script, data_dir), progress=False)


@pytest.mark.parametrize("waits", [False, True])
def test_a_step_is_recorded_once_for_each_choice_of_keywords(waits, monkeypatch, capsys):
    monkeypatch.setattr(torch, "cuda", cuda := MagicMock())
    seen = []

    @common.recorded(torch.device("cuda"))
    def step(points, *, negative):
        seen.append(points)
        if waits and len(seen) == 4:  # while it is recorded
            raise RuntimeError("called a synchronizing operation")
        return f"losses of {negative}, {len(seen)}"

    for negative in (False, True):
        given = torch.randn(6, 5)
        results = [step(points, negative=negative) for points in given]
        assert all(map(torch.equal, seen[:3], given))  # called
        if waits:  # called as before
            assert all(map(torch.equal, seen[4:], given[3:]))
        else:
            assert seen[3].equal(given[5])  # the tensor of the graph, with the last points
            assert results[3:] == 3 * [f"losses of {negative}, 4"]
        seen.clear()
    assert cuda.graph.call_count == 2
    assert cuda.CUDAGraph().replay.call_count == (0 if waits else 6)
    assert capsys.readouterr().err.count("slower: called a synchronizing operation\n") == 2 * waits


@pytest.mark.parametrize("device", DEVICES)
def test_a_change_of_the_learning_rate_takes_effect(device):
    weight = torch.ones(1, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([weight], 0.1, fused=True)

    @common.recorded(weight.device)
    def step():
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()

    lowered = []
    for lr in 6 * [0.1] + [0, 0.2]:
        common.set_lr(lr, optimizer)
        before = weight.item()
        step()
        lowered.append(before - weight.item())
    assert lowered == pytest.approx(6 * [0.1] + [0, 0.2], abs=1e-4)


@needs_cuda
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_recorded_training_learns_the_same(script, data_dir, monkeypatch, capsys):
    def learned():
        """History (epochs, columns) and weights after a short training."""
        data = own_data(script, data_dir)
        training = script.train(*data, device="cuda", epochs=3, progress=False)
        network = getattr(training, "classifier", None) or training.generator
        weights = [each.detach().flatten().double() for each in network.parameters()]
        return torch.tensor(training.history), torch.cat(weights)

    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda x: replays.append(replay(x)))
    capped(monkeypatch, script, 8)
    recorded = [learned(), learned()]
    assert replays
    assert "Not recorded" not in capsys.readouterr().err
    monkeypatch.setattr(common, "recorded", lambda _: lambda step: step)
    called = learned(), learned()
    for (history, weights), (due_history, due) in zip(recorded, called, strict=True):
        assert torch.allclose(history, due_history, rtol=0.05, atol=0.01)
        # Not one by one: a GPU adds in any order, so small gradients may change their sign
        assert (weights - due).norm() < 0.05 * due.norm()


@needs_cuda
def test_a_step_that_waits_for_the_gpu_is_called(monkeypatch, capsys):
    class Waits(torch.nn.Linear):
        def forward(self, rows):
            return super().forward(rows) * (1 + 0 * rows.sum().item())

    capped(monkeypatch, sine_gan, 8)
    monkeypatch.setattr(sine_gan, "build_discriminator", lambda features: Waits(features, 1))
    training = sine_gan.train(torch.randn(300, 2), device="cuda", epochs=4, progress=False)
    assert len(training.history) == 4
    assert "Not recorded as a CUDA graph" in capsys.readouterr().err
