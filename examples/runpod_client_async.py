"""Several talking videos at once by Runpod's asyncio client; set up as runpod_client.py.

    python examples/runpod_client_async.py request.json [request.json ...]

This client puts `{"input": ...}` around what it is given, so that a policy cannot be sent.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import runpod
from aiohttp import ClientResponse
from runpod import AsyncioEndpoint
from runpod.http_client import AsyncClientSession


async def main(payloads: list[Path]) -> None:
    runpod.api_key = os.environ["RUNPOD_API_KEY"]
    async with AsyncClientSession(raise_for_status=exit_on_error) as session:
        endpoint = AsyncioEndpoint(os.environ.get("RUNPOD_ENDPOINT_ID", "farm"), session)
        await asyncio.gather(*(make_video(endpoint, each) for each in payloads))

        unwanted = await endpoint.run(json.loads(payloads[0].read_text())["input"])
        print("cancelled", (await unwanted.cancel())["status"])
        print("health", json.dumps(await endpoint.health()))
        print("purged", (await endpoint.purge_queue())["removed"])


async def exit_on_error(response: ClientResponse) -> None:
    """The client itself would go on, and report a KeyError."""
    if response.status >= 400:
        sys.exit(f"HTTP {response.status}: {await response.text()}")


async def make_video(endpoint: AsyncioEndpoint, payload: Path) -> None:
    job = await endpoint.run(json.loads(payload.read_text())["input"])
    async for part in job.stream():  # each finished chunk, then the result
        print("part", job.job_id, json.dumps(part))
    output = await job.output(timeout=600)  # without a timeout it raises at once
    print("ended", job.job_id, await job.status(), output["status"])


if __name__ == "__main__":
    asyncio.run(main([Path(each) for each in sys.argv[1:]]))
