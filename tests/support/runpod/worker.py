"""Processes that take jobs from a fake Runpod."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.runpod.server import FakeRunpod

PING_MS = 1000
"""The SDK divides by 1000 and drops the rest: below this it pings without a pause."""


@dataclass
class Worker:
    """A process in a group of its own, which ends with it like a container.

    The SDK's pings come from a child, which would outlive it.
    """

    id: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def start_worker(
    fake: FakeRunpod,
    command: Sequence[str],
    log: Path,
    *,
    endpoint: str = "echo",
    name: str = "pod-1",
    environ: Mapping[str, str] | None = None,
) -> Iterator[Worker]:
    """A worker of an endpoint that runs a command of this Python, killed at the end."""
    fake.endpoint(endpoint)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **worker_environ(fake, endpoint, name), **(environ or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    worker = Worker(name, process, log)
    container = threading.Thread(target=_end_with_its_first_process, args=(worker,))
    container.start()
    try:
        yield worker
    finally:
        worker.kill()
        container.join()


def worker_environ(fake: FakeRunpod, endpoint: str, name: str) -> dict[str, str]:
    """What Runpod sets in a worker's container."""
    base = f"{fake.url}/{endpoint}"
    return {
        "RUNPOD_AI_API_KEY": fake.key,
        "RUNPOD_ENDPOINT_ID": endpoint,
        "RUNPOD_POD_ID": name,
        "RUNPOD_PING_INTERVAL": str(PING_MS),
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }


def _end_with_its_first_process(worker: Worker) -> None:
    worker.process.wait()
    worker.kill()
