"""Ctrl-C in one's own code: what was learned is kept."""

import signal
import threading
from functools import partial

import pytest
import torch
from conftest import at_epoch

import common
import sine_gan

LONG = {"epochs": 100_000, "patience": 100_000, "progress": False}


def test_a_training_from_code_returns_the_best_so_far(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    at_epoch(monkeypatch, 3, partial(signal.raise_signal, signal.SIGINT))
    training = sine_gan.train(sine_gan.real_samples(500), **LONG)
    assert training.interrupted
    assert len(training.history) == 3
    assert training.generator(torch.randn(4, 2)).shape == (4, 2)
    assert signal.getsignal(signal.SIGINT) is before
    assert not sine_gan.train(sine_gan.real_samples(500), epochs=1, progress=False).interrupted


def test_a_second_interrupt_ends_at_once(monkeypatch):
    def finish(*_):
        signal.raise_signal(signal.SIGINT)

    at_epoch(monkeypatch, 3, partial(signal.raise_signal, signal.SIGINT))
    monkeypatch.setattr(common.Training, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        sine_gan.train(sine_gan.real_samples(500), **LONG)


def test_before_an_epoch_has_ended_there_is_nothing_to_keep(monkeypatch):
    monkeypatch.setattr(common, "update_ema", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        sine_gan.train(sine_gan.real_samples(500), **LONG)


def test_training_works_outside_the_main_thread():
    settings, found = {"epochs": 1, "progress": False}, []
    data = sine_gan.real_samples(500)
    thread = threading.Thread(target=lambda: found.append(sine_gan.train(data, **settings)))
    thread.start()
    thread.join()
    assert not found[0].interrupted
