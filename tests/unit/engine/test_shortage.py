"""A worker without room or memory leaves its step to a later attempt."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from farm.engine.advance import claim_due_step
from farm.engine.shortage import RETRY_S
from farm.engine.step_context import DECLINE_S, MAX_DECLINED, StepContext
from farm.errors import FFmpegFailed, GenerationFailed, UploadFailed, WorkerLost
from farm.route import DOWNLOAD, EMBED, Step
from tests.support.harness import Harness

CHUNK = Step("generate", 0)


def run(entered: Harness, step: Step, error: Exception | None) -> Step | None:
    """One attempt at a step that ends with an error."""

    def function(ctx: StepContext) -> Any:
        if error is not None:
            raise error
        with open("/dev/full", "wb") as full:
            full.write(b"frames")

    return entered.run(step, step_function=lambda _: function)


def encoding_failed() -> FFmpegFailed:
    error = FFmpegFailed("frames.mp4: frame 3 could not be encoded")
    error.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    return error


@pytest.mark.parametrize("error", [None, encoding_failed()], ids=["of a step", "of a library"])
def test_a_step_that_finds_the_disk_full_is_made_later_and_not_counted(entered, error):
    assert run(entered, CHUNK, error) is None
    assert not entered.status.ended
    assert entered.registry.steps.attempts("a", CHUNK.id) == 0
    entered.clock.advance(DECLINE_S + 1)
    assert claim_due_step(entered.ctx, "a") == CHUNK


def test_a_job_for_which_no_worker_ever_has_room_says_so(entered):
    for _ in range(MAX_DECLINED):
        assert run(entered, CHUNK, None) is None
        entered.clock.advance(DECLINE_S + 1)
    with pytest.raises(GenerationFailed, match=r"temporary folder \S+ is full, .* more room"):
        run(entered, CHUNK, None)
    assert entered.failure.code == "E_GENERATION_RUNTIME"
    assert entered.failure.retryable


def test_a_full_store_is_no_full_worker(entered):
    error = UploadFailed("the store could not take it", retryable=False)
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UploadFailed):
        run(entered, DOWNLOAD, error)


def test_a_child_that_was_killed_costs_an_attempt_and_at_last_the_job(entered):
    killed = OSError(
        errno.ENOMEM, "cond_video: decoding was killed, most likely for lack of memory"
    )
    for _ in range(entered.ctx.settings.max_attempts):
        assert run(entered, EMBED, killed) is None
        entered.clock.advance(RETRY_S + 1)
    with pytest.raises(WorkerLost):
        run(entered, EMBED, killed)
