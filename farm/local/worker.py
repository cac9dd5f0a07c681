"""The command line of one worker, the same on a laptop, in Compose and on Kubernetes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Literal

from farm.settings import Settings

QueueName = Literal["cpu", "gpu"]

ALLOCATION = "glibc.malloc.mmap_threshold=1048576:glibc.malloc.hugetlb=1"
"""What a worker lets go of goes back to the system. With glibc's own threshold, which grows, tensors leave holes: on a
CPU a chunk's peak is a third higher, and wanders. Huge pages win back most of the time that this takes.
"""


def worker_command(
    queue: QueueName, settings: Settings, *, application: str = "tasks"
) -> list[str]:
    """Celery's worker for a queue and a module's application. A gpu worker is one process: one model fills a GPU."""
    processes = 1 if queue == "gpu" else settings.cpu_concurrency
    return [
        *(
            sys.executable,
            "-m",
            "celery",
            "--quiet",
            "-A",
            application,
            "worker",
        ),  # its banner is no JSON
        *("--queues", queue, "--hostname", f"{queue}@%h"),
        # prefork alone knows time limits and survives a child's crash; CUDA is touched in the child only.
        *("--pool", "prefork", "--concurrency", str(processes)),
        # Chatter between workers that nothing here needs; without it a worker starts in half the time.
        *("--without-gossip", "--without-mingle"),
    ]


def worker_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for a worker; what it says of glibc's allocation stands."""
    return {"GLIBC_TUNABLES": ALLOCATION, **environ}
