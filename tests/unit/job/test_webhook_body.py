"""What a webhook is sent of a result: at most 64 KB, whatever was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farm.errors import FFmpegFailed
from farm.job import Artifact, Failure, JobRequest, Result, Video
from farm.job.webhook import MAX_BODY_BYTES, webhook_body
from tests.support.jobs import FIELDS

WIDE = "\N{GRINNING FACE}"
"""A character of four bytes."""


def success(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "job_id": "a",
        "status": "success",
        "video": Video(url="https://s3/a.mp4", bytes=9, thumbnail_url="https://s3/a.jpg"),
        "artifacts": (
            Artifact(type="manifest", url="https://s3/a.json", mime="application/json", bytes=9),
        ),
        "timings": {"total_ms": 7},
        "params": {"prompt": "a woman talks"},
        "warnings": ("ü",),
    }
    return Result(**{**fields, **changes})


def sent(result: Result) -> dict[str, Any]:
    body = webhook_body(result)
    assert len(body) <= MAX_BODY_BYTES
    return dict(json.loads(body))


def failed(message: str) -> Result:
    error = FFmpegFailed(message).describe(at_stage="muxing_started")
    return Result(job_id="a", status="error", error=Failure.model_validate(error))


def test_everything_but_the_parameters_is_sent_and_that_is_said():
    expected = success().model_dump(mode="json", exclude={"params": True, "video": {"base64"}})
    assert sent(success()) == {**expected, "omitted": ["params"]}


def test_an_inline_video_is_not_sent_again():
    video = Video(url="https://s3/a.mp4", bytes=9, thumbnail_url="t", base64="A" * 10_000_000)
    body = sent(success(video=video))
    assert body["omitted"] == ["params", "video.base64"]
    assert (body["video"]["url"], "base64" in body["video"]) == ("https://s3/a.mp4", False)


def test_urls_of_a_folder_that_is_no_affair_of_the_receiver_are_not_sent():
    url = "file:///srv/farm/jobs/a.mp4"
    local = success(video=Video(url=url, bytes=9, thumbnail_url=url))

    assert dict(json.loads(webhook_body(local)))["video"]["url"] == url
    body = dict(json.loads(webhook_body(local, without="file:///srv/farm")))
    assert body["video"] == {"mime": "video/mp4", "bytes": 9}
    assert body["omitted"] == ["params", "video.url", "video.thumbnail_url", "artifacts"]
    assert webhook_body(success(), without="file:///srv/farm") == webhook_body(success())


def test_the_largest_request_that_is_allowed_makes_no_large_call():
    # Given the longest texts of each field
    name = WIDE * 200
    request = JobRequest.parse(
        {
            **FIELDS,
            "cond_audio": None,
            "prompt": WIDE * 5000,
            "negative_prompt": WIDE * 5000,
            "cond_video": "https://example.org/" + "a" * 3980,
            "tts_audio": {"text": WIDE * 100_000, "human1_voice": f"kokoro:{name[7:]}"},
            "lora": [{"name": name}] * 16,
            "output_config": {"store": "volume", "prefix": "/".join([WIDE * 62] * 8)[:500]},
            "webhook": "https://example.org/" + "a" * 1980,
            "idempotency_key": WIDE * 200,
        }
    )
    # When it succeeds, with URLs below its prefix
    url = "file:///results/" + request.output_config.prefix.encode().hex("%")
    artifacts = [
        Artifact(type=kind, url=url, mime="application/json", bytes=9)
        for kind in ("video", "thumbnail", "manifest")
    ]
    result = success(
        video=Video(url=url, bytes=9, thumbnail_url=url),
        artifacts=tuple(artifacts),
        params=request.model_dump(mode="json"),
    )
    assert len(result.model_dump_json().encode()) > 5 * MAX_BODY_BYTES
    # Then the call has its URLs
    assert sent(result)["artifacts"][2]["url"] == url


@pytest.mark.parametrize("character", ["x", WIDE, "\x01"])
def test_the_longest_error_is_sent_with_its_beginning_and_its_end(character):
    body = sent(failed(f"first {character * 1_000_000} last"))
    message = body["error"]["message"]
    assert (message[:5], message[-4:]) == ("first", "last")
    assert "1000011 characters" in message
    assert body["omitted"] == []


def test_of_a_result_that_is_too_long_even_so_the_job_and_its_state_are_sent():
    result = success(warnings=("x" * MAX_BODY_BYTES,))
    omitted = ["params", "video", "artifacts", "timings", "warnings"]
    assert sent(result) == {"job_id": "a", "status": "success", "omitted": omitted}
