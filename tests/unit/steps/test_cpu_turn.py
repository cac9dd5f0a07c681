"""How many steps of a process compute at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.step_context import StepContext, WorkerDraining, never_draining
from farm.job import TtsAudio
from farm.media import decoder
from farm.registry import open_registry
from farm.route import DOWNLOAD
from farm.settings import Settings
from farm.steps.cpu_turn import in_turn
from farm.steps.decoding import sandboxed
from farm.steps.speaking import store_speech
from farm.store.memory import MemoryStore
from tests.support.jobs import REQUEST
from tests.support.steps import step_context


def step(home: Path, draining: Callable[[], bool] = never_draining) -> StepContext:
    settings = Settings(home=home, cpu_concurrency=3)
    ctx = Context(settings, MemoryStore(), open_registry("memory://"))
    ctx.registry.entries.add("a", REQUEST)
    return step_context(ctx, DOWNLOAD, scratch=home, draining=draining)


def test_at_most_cpu_concurrency_steps_compute_at_once(tmp_path):
    # Given three steps that compute
    together = threading.Barrier(4)
    release = threading.Event()

    def compute() -> None:
        together.wait()
        release.wait()

    first = [threading.Thread(target=in_turn(step(tmp_path), compute)) for _ in range(3)]
    for thread in first:
        thread.start()
    together.wait()
    # When a fourth one comes, then it waits until one of them is done
    entered = threading.Event()
    fourth = threading.Thread(target=in_turn(step(tmp_path), entered.set))
    fourth.start()
    assert not entered.wait(0.1)
    # And those that are to decode and to speak leave a draining worker meanwhile
    draining = step(tmp_path, draining=lambda: True)
    with pytest.raises(WorkerDraining):
        sandboxed(draining, decoder.describe_audio)(path=tmp_path, field="cond_audio")
    with pytest.raises(WorkerDraining):
        store_speech(draining, TtsAudio(text="a", human1_voice="en-us"))
    release.set()
    for thread in (*first, fourth):
        thread.join()
    assert entered.is_set()


def test_an_error_gives_the_turn_back(tmp_path):
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            in_turn(step(tmp_path), lambda: 1 / 0)()
