"""A handler that answers as ours does, without a model.

The prompt says what it does: `wait` until it is stopped, `fail`, or else return a video.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import runpod.serverless

VIDEO = b"the video"
FAILURE = {
    "code": "E_OOM",
    "message": "it needs 80 GB, 48 GB are free",
    "retryable": False,
    "at_stage": "generation_started",
    "cause_class": "OutOfMemory",
    "cause_message": "",
}


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    _report(job, 1, "downloads_started", 3.0)
    if job["input"]["prompt"] == "wait":
        await asyncio.Event().wait()
    if job["input"]["prompt"] == "fail":
        return {"job_id": "inside", "status": "error", "error": FAILURE}
    video = {
        "url": "store://video.mp4",
        "mime": "video/mp4",
        "bytes": len(VIDEO),
        "thumbnail_url": "store://thumbnail.jpg",
        "base64": base64.b64encode(VIDEO).decode(),
    }
    return {"job_id": "inside", "status": "success", "video": video, "warnings": []}


def _report(job: dict[str, Any], counter: int, stage: str, pct: float) -> None:
    event = {"stage": stage, "pct": pct, "job_id": "inside", "details": {}, "counter": counter}
    runpod.serverless.progress_update(job, event)


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
