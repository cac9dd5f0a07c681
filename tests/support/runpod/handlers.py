"""Handlers on the SDK's own loop: `python -m tests.support.runpod.handlers [stream]`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import runpod.serverless


async def handler(job: dict[str, Any]) -> Any:
    """Does what the input says."""
    match job["input"]:
        case {"echo": value}:
            return value
        case {"answer": answer}:
            return answer
        case {"raise": text}:
            raise ValueError(text)
        case {"bytes": text}:
            return {"bytes": text.encode()}
        case {"exit": code}:
            os._exit(code)
        case {"progress": count}:
            for number in range(count):
                runpod.serverless.progress_update(job, {"number": number})
                await asyncio.sleep(0.2)
            return {"counted": count}
        case {"sleep": seconds}:
            runpod.serverless.progress_update(job, "asleep")
            await asyncio.sleep(seconds)
            return {"slept": seconds}
    return {"unknown": job["input"]}


async def stream(job: dict[str, Any]) -> AsyncIterator[Any]:
    for number in range(job["input"]["count"]):
        yield {"number": number}
    if "error" in job["input"]:
        yield {"error": job["input"]["error"]}


if __name__ == "__main__":
    streams = sys.argv[1:] == ["stream"]
    concurrency = int(os.environ.get("CONCURRENCY", "1"))
    runpod.serverless.start(
        {
            "handler": stream if streams else handler,
            "return_aggregate_stream": streams,
            "concurrency_modifier": lambda _: concurrency,
        }
    )
