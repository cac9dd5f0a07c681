"""What a bridge costs that has many chunks in flight: memory, CPU, and leases that it loses.

    python -m benchmarks.bridge [--chunks 100] [--seconds 60]

The jobs of the fake endpoint wait for ever; it runs in this process, not in the bridge's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from farm import Farm
from farm.local.broker import Broker
from farm.local.process import spawn, stop
from farm.local.worker import worker_command
from farm.registry import Registry
from farm.route import DOWNLOAD, EMBED, Step
from farm.settings import Settings
from farm.store import keys
from tests.support.attempts import FIRST
from tests.support.jobs import job_request
from tests.support.outputs import committed, download_output, embed_output
from tests.support.rented_farm import ENDPOINT, variables
from tests.support.runpod import FakeRunpod, fake_runpod
from tests.support.swift import Swift
from tests.support.waiting import wait_for

CHUNK = Step("generate", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100, help="chunks in flight (default: 100)")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, fake_runpod() as runpod:
        swift = Swift(Path(folder) / "swift")
        broker = Broker(Settings(home=Path(folder)))
        try:
            given = {
                **swift.settings().model_dump(exclude_unset=True),
                "home": folder,
                "broker_url": broker.url,
                "runpod_url": runpod.url,
                "runpod_endpoint_id": ENDPOINT,
                "runpod_api_key": runpod.key,
                "bridge_slots": options.chunks,
            }
            measure(given, runpod, options.chunks, options.seconds)
        finally:
            broker.stop()
            swift.stop()


def measure(given: dict[str, Any], runpod: FakeRunpod, chunks: int, seconds: float) -> None:
    """Fills a bridge, watches it for a while, and prints what it has cost."""
    settings = Settings.load(variables(given))
    log = settings.folder / "bridge.log"
    environ = {**os.environ, **variables(given)}
    bridge = spawn(worker_command("bridge", settings), log=log, environ=environ)
    try:
        farm = Farm(settings=settings)
        begun = time.monotonic()
        for number in range(chunks):
            enter(farm, f"job-{number}")
        wait_for(lambda: len(runpod.jobs(ENDPOINT)) == chunks)
        print(f"{chunks} chunks in flight after {time.monotonic() - begun:.1f} s")
        process = psutil.Process(bridge.pid)
        cpu_s, polls = cpu(process), runpod.faults.calls["status"]
        time.sleep(seconds)
        memory_mb = process.memory_info().rss / 1e6
        used = (cpu(process) - cpu_s) / seconds
        polled = (runpod.faults.calls["status"] - polls) / seconds
        print(f"{memory_mb:.0f} MB, {used:.2f} of a core, {polled:.0f} status requests a second")
        text = log.read_text()
        lost = [text.count(event) for event in ("step_cancelled", "lease_renewal_failed")]
        print(f"leases lost: {lost[0]}, renewals that failed: {lost[1]}")
        print(f"submitted more than once: {len(runpod.jobs(ENDPOINT)) - chunks}")
    finally:
        stop([bridge], grace_s=30)


def enter(farm: Farm, job_id: str) -> None:
    """A job whose first chunk is due."""
    registry: Registry = farm.context.registry
    registry.entries.add(job_id, job_request())
    image = keys.attempt(job_id, DOWNLOAD.id, FIRST, "image.png")
    track = keys.attempt(job_id, EMBED.id, FIRST, "track-0000.aac")
    downloaded = committed(download_output(visual_key=image), digests={image: "0" * 64})
    embedded = committed(embed_output(aac_keys=(track,)), digests={track: "0" * 64})
    for step, output in ((DOWNLOAD, downloaded), (EMBED, embedded)):
        registry.steps.restore(job_id, step.id, attempt_id=FIRST, committed=output)
    registry.steps.claim_dispatch(job_id, CHUNK.id)
    farm.transport.dispatch(job_id, CHUNK)


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
