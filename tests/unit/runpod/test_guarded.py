"""Steps whose process may die, on stores of all kinds."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.step_context import StepContext, WorkerDraining
from farm.errors import GenerationFailed, WorkerLost
from farm.registry import open_registry
from farm.registry.outputs import StepOutput
from farm.route import MUX, Step
from farm.runpod.guarded import MARK, guarded
from farm.runpod.turn import GpuTurn
from farm.settings import Settings
from farm.store import Store, keys
from tests.support.outputs import output_of
from tests.support.steps import step_context
from tests.support.waiting import wait_for

CHUNK = Step("generate", 0)


def attempt(store: Store, scratch: Path, number: int, *, draining: bool = False) -> StepContext:
    ctx = Context(Settings(max_attempts=2), store, open_registry("memory://"))
    attempt_id = f"{number:04d}-00000000000000aa"
    return step_context(
        ctx, CHUNK, scratch=scratch, attempt_id=attempt_id, draining=lambda: draining
    )


def lose(ctx: StepContext) -> None:
    """What an attempt leaves whose worker died."""
    ctx.store.put(keys.attempt(ctx.job_id, ctx.step.id, ctx.lease.attempt_id, MARK), b"")


def marks(store: Store) -> list[str]:
    return [key for key in store.keys("jobs/") if key.endswith(MARK)]


def succeed(ctx: StepContext) -> StepOutput:
    assert len(marks(ctx.store)) == 1, "it runs without a mark"
    return output_of(ctx.step.id)


def leave(ctx: StepContext) -> StepOutput:
    sys.exit("no space")


def drain(ctx: StepContext) -> StepOutput:
    raise WorkerDraining


def test_an_attempt_is_marked_while_it_runs(store: Store, tmp_path: Path) -> None:
    assert guarded(succeed, GpuTurn())(attempt(store, tmp_path, 1)) == output_of(CHUNK.id)
    assert marks(store) == []


def test_an_exit_fails_the_step_without_a_retry(store: Store, tmp_path: Path) -> None:
    with pytest.raises(GenerationFailed, match="SystemExit: no space") as raised:
        guarded(leave, GpuTurn())(attempt(store, tmp_path, 1))
    assert not raised.value.retryable
    assert marks(store) == []


def test_draining_is_no_failure(store: Store, tmp_path: Path) -> None:
    with pytest.raises(WorkerDraining):
        guarded(drain, GpuTurn())(attempt(store, tmp_path, 1))
    assert marks(store) == []


def test_a_step_is_given_up_after_so_many_dead_workers(store: Store, tmp_path: Path) -> None:
    lose(attempt(store, tmp_path, 1))
    first = attempt(store, tmp_path, 2)
    assert guarded(output_for, GpuTurn())(first) == output_of(CHUNK.id)
    lose(first)
    with pytest.raises(WorkerLost, match="none of 2 attempts committed"):
        guarded(output_for, GpuTurn())(attempt(store, tmp_path, 3))


def test_dead_workers_of_other_steps_do_not_count(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        ctx = attempt(store, tmp_path, number)
        store.put(keys.attempt(ctx.job_id, MUX.id, ctx.lease.attempt_id, MARK), b"")
    assert guarded(output_for, GpuTurn())(attempt(store, tmp_path, 3)) == output_of(CHUNK.id)


def test_a_step_that_waits_for_the_gpu_can_be_drained(store: Store, tmp_path: Path) -> None:
    turn = GpuTurn()
    ctx = attempt(store, tmp_path, 1, draining=True)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            guarded(succeed, turn)(ctx)
        except WorkerDraining as draining:
            ended.append(draining)

    with turn.wait(lambda: None):
        thread = threading.Thread(target=wait)
        thread.start()
        wait_for(lambda: ended)
    thread.join()


def output_for(ctx: StepContext) -> StepOutput:
    return output_of(ctx.step.id)
