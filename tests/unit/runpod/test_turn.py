"""One GPU for several jobs."""

from __future__ import annotations

import threading

import pytest

from farm.runpod.turn import GpuTurn
from farm.runpod.whole_job import Interrupted


def never() -> None:
    pass


def test_one_job_at_a_time_has_the_gpu() -> None:
    turn = GpuTurn()
    inside: list[int] = []
    most: list[int] = []

    def run() -> None:
        for _ in range(50):
            with turn.wait(never):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200
    assert max(most) == 1


def test_a_job_that_is_stopped_waits_no_longer() -> None:
    turn = GpuTurn()

    def stopped() -> None:
        raise Interrupted

    def wait() -> None:
        with turn.wait(stopped):
            raise AssertionError("it has the GPU")

    with turn.wait(never), pytest.raises(Interrupted):
        wait()
    with turn.wait(never):
        pass
