"""The command line of a worker, the same on a laptop, in Compose and on Kubernetes."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from farm.errors import InvalidInput
from farm.route import CONSUMED, WorkerKind
from farm.settings import Settings

MALLOC_TUNABLES = "glibc.malloc.mmap_threshold=1048576:glibc.malloc.hugetlb=1"
"""Return freed memory to the system. glibc's own threshold grows, so freed tensors leave holes: on
a CPU the peak of a chunk is a third higher, and varies. Huge pages recover most of the time lost.
"""


APPLICATION = "farm.tasks"
"""Where Celery finds the application of workers and Flower."""


def celery_command(application: str = APPLICATION) -> list[str]:
    """How Celery's command line begins; it imports nothing from the working folder."""
    # Quiet, because the banner is not JSON.
    return [sys.executable, "-P", "-m", "farm.tasks", "--quiet", "-A", application]


def worker_command(
    kind: WorkerKind, settings: Settings, *, application: str | None = None
) -> list[str]:
    """The Celery worker of a kind; `application` is the module of its tasks.

    A gpu worker has one process, because one model fills a GPU. Downloads and bridges have threads,
    because they wait for servers; each of their waits has a limit of its own.
    """
    pool, concurrency = _pool(kind, settings)
    if application is None:
        application = f"{APPLICATION}.bridge" if kind == "bridge" else APPLICATION
    return [
        *(*celery_command(application), "worker"),
        *("--queues", ",".join(CONSUMED[kind]), "--hostname", f"{kind}@%h"),
        *("--pool", pool, "--concurrency", str(concurrency)),
        # Workers need not know each other; without this traffic they start in half the time.
        *("--without-gossip", "--without-mingle"),
    ]


def _pool(kind: WorkerKind, settings: Settings) -> tuple[str, int]:
    """Celery's name of a worker's pool, and how many steps it runs at once."""
    if kind == "bridge":
        return "threads", settings.bridge_slots
    if kind == "downloads":
        if settings.download_concurrency == 0:
            raise InvalidInput("FARM_DOWNLOAD_CONCURRENCY: got 0; allowed: 1 or more to download")
        return "threads", settings.download_concurrency
    # Only prefork has time limits and survives a child's crash. CUDA is used in children only.
    return "prefork", 1 if kind == "gpu" else settings.cpu_concurrency


def worker_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a worker; a GLIBC_TUNABLES in `environ` overrides ours."""
    return {"GLIBC_TUNABLES": MALLOC_TUNABLES, **environ}
