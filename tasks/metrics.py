"""The Prometheus metrics of a worker: its own process serves them, with those of its children."""

from __future__ import annotations

import os
import threading
from typing import Any

from celery.signals import worker_init, worker_ready

from farm import metrics
from farm.logs import log
from farm.monitoring.exporter import serve
from farm.monitoring.worker_metrics import WorkerMetrics, sender
from farm.tasks.celery import settings
from farm.tasks.kind import worker_kind

_collected: list[WorkerMetrics] = []

PIPE = "WORKER_METRICS_PIPE"
"""The variable by which a cpu worker hands its pipe to the worker that it starts; empty: none."""


@worker_init.connect
def _open(**_: Any) -> None:
    """Before any child is forked, so that all of them have the pipe."""
    inherited = os.environ.get(PIPE)
    if inherited:
        metrics.listen(sender(int(inherited)))
    elif settings.metrics_listen_address:
        _collected.append(WorkerMetrics())
        metrics.listen(_collected[0].send)


def pipe() -> tuple[int, ...]:
    """The file descriptor to which values are written; none if the worker has no metrics."""
    return tuple(each.write_end for each in _collected)


@worker_ready.connect
def _serve(**_: Any) -> None:
    """After the first children were forked. Without its port a worker goes on, without metrics."""
    address = settings.metrics_listen_address
    if address is None or not _collected:
        return
    (collected,) = _collected
    if worker_kind() == "gpu":
        metrics.add("farm_gpus", settings.gpus)
    threading.Thread(target=collected.collect_forever, name="metrics", daemon=True).start()
    try:
        serve(collected.registry, address)
    except OSError as error:
        log("metrics_server_failed", address=settings.metrics_address, reason=str(error))
