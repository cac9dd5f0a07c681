"""The command line of a worker, the same on a laptop, in Compose and on Kubernetes."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from farm.route import Queue
from farm.settings import Settings

MALLOC_TUNABLES = "glibc.malloc.mmap_threshold=1048576:glibc.malloc.hugetlb=1"
"""Return freed memory to the system. glibc's own threshold grows, so freed tensors leave holes: on
a CPU the peak of a chunk is a third higher, and varies. Huge pages recover most of the time lost.
"""


def worker_command(queue: Queue, settings: Settings, *, application: str = "tasks") -> list[str]:
    """The Celery worker of a queue; `application` is the module of its tasks.

    A gpu worker has one process, because one model fills a GPU.
    """
    processes = 1 if queue == "gpu" else settings.cpu_concurrency
    return [
        # Quiet, because the banner is not JSON.
        *(sys.executable, "-m", "celery", "--quiet", "-A", application, "worker"),
        *("--queues", queue, "--hostname", f"{queue}@%h"),
        # Only prefork has time limits and survives a child's crash. CUDA is used in children only.
        *("--pool", "prefork", "--concurrency", str(processes)),
        # Workers need not know each other; without this traffic they start in half the time.
        *("--without-gossip", "--without-mingle"),
    ]


def worker_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a worker; a GLIBC_TUNABLES in `environ` overrides ours."""
    return {"GLIBC_TUNABLES": MALLOC_TUNABLES, **environ}
