"""A GPU: loops leave no tensor on the CPU, and steps are recorded as CUDA graphs.

Without a GPU, torch's meta device shows the first: it computes only shapes, and refuses to mix its
tensors with those of the CPU. A stand-in for torch.cuda shows the logic of the second.
"""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from conftest import DEVICES, GANS, SCRIPTS, capped, needs_cuda, own_data, signal_after

import common
import sine_gan


class Evaluated(Exception):
    """The loop has reached its first evaluation."""


@pytest.mark.parametrize("script", GANS)
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


@pytest.mark.parametrize("waits", [False, True])
def test_a_step_is_recorded_once_for_each_choice_of_keywords(waits, monkeypatch, capsys):
    events, same, nothing = [], contextlib.nullcontext, SimpleNamespace(wait_stream=lambda _: None)

    @contextlib.contextmanager
    def record(_, **__):
        events.append("record")
        yield
        events.append("end")

    stand_in = {
        "Stream": lambda _: nothing, "current_stream": lambda _: nothing, "graph": record,
        "stream": same, "device": same, "set_sync_debug_mode": lambda _: None,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: events.append("replay")),
    }  # fmt: skip
    for name, value in stand_in.items():
        monkeypatch.setattr(torch.cuda, name, value)

    @common.recorded(torch.device("cuda"))
    def step(points, *, negative):
        if waits and events[-1:] == ["record"]:
            events.append("error")
            raise RuntimeError("called a synchronizing operation")
        events.append(points)
        return f"losses of {negative}, {len(events)}"

    for negative in (False, True):
        given = torch.randn(6, 5)
        results = [step(points, negative=negative) for points in given]
        assert all(map(torch.equal, events[:3], given))  # called
        assert events[3] == "record"
        if waits:  # called as before
            assert all(map(torch.equal, events[5:], given[3:]))
        else:
            assert events[5:] == ["end", *3 * ["replay"]]
            assert events[4].equal(given[5])  # the tensor of the graph, with the last points
            assert results[3:] == 3 * [f"losses of {negative}, 5"]
        events.clear()
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
    called = [learned(), learned()]
    for (history, weights), (due_history, due) in zip(recorded, called, strict=True):
        assert torch.allclose(history, due_history, rtol=0.05, atol=0.01)
        # Not one by one: a GPU adds in any order, so small gradients may change their sign
        assert (weights - due).norm() < 0.05 * due.norm()


@needs_cuda
def test_an_interrupted_recorded_training_keeps_what_it_learned(monkeypatch):
    capped(monkeypatch, sine_gan, 8)
    signal_after(monkeypatch, 3)
    data = sine_gan.real_samples(300).cuda()
    first = sine_gan.train(data, device="cuda", epochs=9, progress=False)
    assert (first.interrupted, len(first.history)) == (True, 3)
    assert first.samples.device.type == "cpu"
    assert not sine_gan.train(data, device="cuda", epochs=4, progress=False).interrupted


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
