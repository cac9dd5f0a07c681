"""Failures of steps: which code the job ends with, and which steps are tried again."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest

from farm.engine.advance import claim_due_step
from farm.engine.attempt import RETRY_AFTER_S
from farm.engine.step_context import StepContext
from farm.errors import (
    DownloadFailed,
    EmbeddingFailed,
    FarmError,
    FarmUnreachable,
    FFmpegFailed,
    GenerationFailed,
    InvalidInput,
    TimedOut,
    UploadFailed,
    WorkerLost,
)
from farm.route import DOWNLOAD, EMBED, MUX, Step
from farm.store import keys
from tests.support.harness import refuse
from tests.support.outputs import download_output


def test_a_missing_upload_ends_the_job_with_code_stage_and_message(harness):
    harness.enter(cond_video="store://uploads/" + "0" * 64)
    with pytest.raises(DownloadFailed, match="cond_video: the store holds no uploads/0000"):
        harness.run(DOWNLOAD)
    assert harness.status.state == "error"
    failure = harness.failure
    assert (failure.code, failure.at_stage) == ("E_DOWNLOAD_FAILED", "downloads_started")
    assert not failure.retryable


def test_a_store_key_that_is_no_upload_is_refused(harness):
    harness.enter(cond_video="store://jobs/b/request.json")
    with pytest.raises(InvalidInput, match="allowed: store://uploads/"):
        harness.run(DOWNLOAD)
    assert harness.failure.code == "E_INPUT_VALIDATION"


def test_an_upload_beyond_the_operators_limit_is_refused(harness):
    harness.enter()
    strict = harness.with_settings(max_visual_bytes=10)
    with pytest.raises(DownloadFailed, match=r"cond_video: it has [\d,]+ bytes; allowed: 10"):
        strict.run(DOWNLOAD)


def test_text_instead_of_audio_ends_the_job_with_the_name_of_its_field(harness):
    key = keys.upload(b"just words")
    harness.store.put(key, b"just words")
    harness.enter(cond_audio={"person1": keys.SCHEME + key})
    with pytest.raises(FarmError, match=r"cond_audio\.person1"):
        harness.run(DOWNLOAD)
    assert harness.status.state == "error"
    assert harness.failure.message.startswith("cond_audio.person1: ")


def test_audio_that_cannot_be_decoded_later_is_named_by_its_field_too(entered):
    broken = keys.upload(b"RIFF\0\0\0\0WAVE")
    entered.store.put(broken, b"RIFF\0\0\0\0WAVE")
    entered.complete(DOWNLOAD, download_output(audio_keys=(broken,)))
    with pytest.raises(InvalidInput, match=r"^cond_audio\.person1: "):
        entered.run(EMBED)


def test_an_unforeseen_exception_gets_the_code_of_its_step_and_keeps_its_cause(entered):
    message = "embed: LookupError: embed was run before download was committed"
    with pytest.raises(EmbeddingFailed, match=message):
        entered.run(EMBED)
    failure = entered.failure
    assert (failure.code, failure.cause_class) == ("E_AUDIO_EMBEDDING", "LookupError")
    assert not failure.retryable


def fail_unforeseen(ctx: StepContext) -> Any:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("step", "attempts", "error"),
    [
        (DOWNLOAD, 3, DownloadFailed),
        (EMBED, 1, EmbeddingFailed),
        (Step("generate", 0), 2, GenerationFailed),
        (MUX, 1, FFmpegFailed),
    ],
    ids=lambda value: value.id if isinstance(value, Step) else None,
)
def test_an_unforeseen_exception_is_retried_as_its_kind_of_step_allows(
    entered, step, attempts, error
):
    for _ in range(attempts - 1):
        assert entered.run(step, step_function=lambda _: fail_unforeseen) is None
        entered.clock.advance(10 * RETRY_AFTER_S)
    with pytest.raises(error, match=f"{step.id}: ZeroDivisionError: division by zero"):
        entered.run(step, step_function=lambda _: fail_unforeseen)
    assert entered.status.state == "error"


def test_an_output_of_another_kind_than_the_declared_one_fails_the_step(entered):
    with pytest.raises(EmbeddingFailed, match="embed: ValidationError"):
        entered.run(EMBED, step_function=lambda _: lambda ctx: {"chunks": 3})
    assert entered.committed(EMBED) is None


def test_a_failure_names_files_without_the_workers_paths(entered):
    def fail(ctx: StepContext) -> None:
        part = ctx.scratch / "0000.mp4"
        try:
            part.read_bytes()
        except OSError as error:
            raise FFmpegFailed(f"ffmpeg could not join: [mp4 @ 0x5] file:{part}: no") from error

    with pytest.raises(FFmpegFailed):
        entered.run(DOWNLOAD, step_function=lambda _: fail)
    assert entered.failure.message == "ffmpeg could not join: [mp4 @ 0x5] 0000.mp4: no"
    assert entered.failure.cause_message == "[Errno 2] No such file or directory: '0000.mp4'"


@pytest.mark.parametrize(
    ("error", "tracebacks"),
    [
        (InvalidInput("tts_audio.human1_voice: got 'x'"), []),
        (ZeroDivisionError("a mistake of ours"), ["step_raised"]),
    ],
    ids=["refusal", "mistake"],
)
def test_only_an_error_that_is_none_of_the_farms_is_logged_with_its_traceback(
    entered, caplog, error, tracebacks
):
    def fail(_: StepContext) -> None:
        raise error

    with caplog.at_level(logging.INFO, logger="farm"), suppress(FarmError):
        entered.run(DOWNLOAD, step_function=lambda _: fail)
    assert [record.msg for record in caplog.records].count("step_failed") == 1
    assert [record.msg for record in caplog.records if record.exc_info] == tracebacks


def test_a_failure_is_logged_though_the_broker_is_down_by_then(writing, monkeypatch, caplog):
    def no_broker(*_: Any) -> None:
        raise FarmUnreachable("no broker answers")

    def lose_store_and_broker() -> None:
        monkeypatch.setattr(writing.clock, "swap", no_broker)
        refuse()

    writing.store.before_put = [lose_store_and_broker]
    with caplog.at_level(logging.INFO, logger="farm"), pytest.raises(FarmUnreachable):
        writing.run(DOWNLOAD)
    assert "step_failed" in [record.msg for record in caplog.records]


def test_the_time_limits_exception_becomes_a_timeout(entered):
    with pytest.raises(TimedOut, match="embed took longer than FARM_STEP_TIMEOUT_S allows"):
        entered.run(EMBED, timeout_error=LookupError)
    assert entered.failure.code == "E_TIMEOUT"


def test_a_retryable_failure_is_retried_after_its_pause(writing):
    writing.store.before_put = [refuse]
    assert writing.run(DOWNLOAD) is None
    assert (writing.status.state, claim_due_step(writing.ctx, "a")) == ("running", None)
    writing.clock.advance(RETRY_AFTER_S)
    assert claim_due_step(writing.ctx, "a") == DOWNLOAD
    assert writing.run(DOWNLOAD) == EMBED


def test_each_pause_is_twice_as_long_as_the_one_before(writing):
    writing.store.before_put = [refuse, refuse]
    writing.run(DOWNLOAD)
    writing.clock.advance(RETRY_AFTER_S)
    writing.run(DOWNLOAD)
    writing.clock.advance(1.5 * RETRY_AFTER_S)
    assert claim_due_step(writing.ctx, "a") is None
    writing.clock.advance(0.6 * RETRY_AFTER_S)
    assert claim_due_step(writing.ctx, "a") == DOWNLOAD


def test_a_failure_that_persists_ends_the_job_with_its_own_code(writing):
    writing.store.before_put = [refuse, refuse, refuse]
    for _ in range(UploadFailed.retries):
        assert writing.run(DOWNLOAD) is None
        writing.clock.advance(10 * RETRY_AFTER_S)
    with pytest.raises(UploadFailed, match="disk full"):
        writing.run(DOWNLOAD)
    assert (writing.status.state, writing.failure.code) == ("error", "E_UPLOAD")


def test_a_failure_keeps_its_own_code_if_the_operator_allows_one_attempt(writing):
    strict = writing.with_settings(max_attempts=1)
    writing.store.before_put = [refuse, refuse]
    with suppress(UploadFailed):
        strict.run(DOWNLOAD)
    writing.clock.advance(10 * RETRY_AFTER_S)
    with suppress(FarmError):
        strict.run(DOWNLOAD)
    assert writing.failure.code == "E_UPLOAD"


def test_a_step_that_loses_every_worker_ends_the_job(entered):
    for _ in range(entered.ctx.settings.max_attempts):
        entered.lose_worker(DOWNLOAD)
    with pytest.raises(
        WorkerLost, match="download: none of 3 attempts committed, and the last one lost its worker"
    ):
        entered.run(DOWNLOAD)
    assert (entered.status.state, entered.failure.code) == ("error", "E_WORKER_LOST")
    assert entered.failure.at_stage == "download"
