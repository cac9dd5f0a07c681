"""The command line of one worker, the same on a laptop, in Compose and on Kubernetes."""

from __future__ import annotations

import sys
from typing import Literal

from farm.settings import Settings

QueueName = Literal["cpu", "gpu"]

ENVIRON = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1048576:glibc.malloc.hugetlb=1"}
"""What a worker's environment holds unless it says otherwise: tensors go back to the system when they are let go.

With glibc's own threshold, which grows, they leave holes, and on a CPU a chunk's peak is a third higher and wanders.
Huge pages win back most of the time that asking the system for memory takes.
"""


def worker_command(queue: QueueName, settings: Settings, *, application: str = "tasks") -> list[str]:
    """Celery's worker for a queue and a module's application. A gpu worker is one process: one model fills a GPU."""
    processes = 1 if queue == "gpu" else settings.cpu_concurrency
    return [
        *(sys.executable, "-m", "celery", "-A", application, "worker"),
        *("--queues", queue, "--hostname", f"{queue}@%h"),
        # prefork alone knows time limits and survives a child's crash; CUDA is touched in the child only.
        *("--pool", "prefork", "--concurrency", str(processes)),
        # Chatter between workers that nothing here needs; without it a worker starts in half the time.
        *("--without-gossip", "--without-mingle"),
    ]
