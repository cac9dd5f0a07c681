"""What of a failure leaves a worker."""

from __future__ import annotations

import socket

import pytest

from farm.errors import FFmpegFailed, InvalidInput, PipelineLoadFailed
from farm.job.status import Failure
from farm.runpod.failure import describe, redact


@pytest.mark.parametrize(
    "error", [ValueError("odd"), SystemExit(3), KeyboardInterrupt(), FFmpegFailed("no codec")]
)
def test_whatever_is_raised_becomes_the_contracts_object(error: BaseException) -> None:
    described = describe(error, at_stage="muxing_started")
    assert Failure.model_validate(described).at_stage == "muxing_started"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/runpod-volume/weights/vae/x.safetensors is missing", "x.safetensors is missing"),
        ("[Errno 2] No such file: '/tmp/farm-a-1/f.mp4'", "[Errno 2] No such file: 'f.mp4'"),
        ("file:///root/store/jobs/a.mp4 is gone", "a.mp4 is gone"),
        ("https://s3.example/b/k?X-Amz-Signature=ab&x=1: 403", "https://s3.example/b/k 403"),
        ("https://me:secret@s3.example/b", "https://s3.example/b"),
        ("chunk 3 of 4 failed: 1/2 s", "chunk 3 of 4 failed: 1/2 s"),
        ("store://uploads/ab is unknown", "store://uploads/ab is unknown"),
        ('no\nTraceback (most recent call last):\n  File "/a/b.py", line 1', "no"),
        (f"{socket.gethostname()} is full", "the worker is full"),
    ],
)
def test_folders_signatures_and_tracebacks_stay_on_the_worker(text: str, shown: str) -> None:
    described = describe(PipelineLoadFailed(text), at_stage="queued")
    assert (described["message"], described["cause_message"]) == (shown, shown)


def test_a_value_of_the_callers_own_is_shown_as_it_is() -> None:
    error = InvalidInput("cond_video: got '/etc/passwd'; allowed: a URL")
    assert describe(error, at_stage="queued")["message"] == error.message


def test_nested_texts_are_redacted_too() -> None:
    assert redact({"details": {"message": "/a/b/c", "step": 1}}) == {
        "details": {"message": "c", "step": 1}
    }
