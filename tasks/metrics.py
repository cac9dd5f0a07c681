"""A worker's numbers for Prometheus: its own process serves them, also those of its children."""

from __future__ import annotations

import threading
from typing import Any

from celery.signals import worker_init, worker_ready

from farm import metrics
from farm.logs import log
from farm.monitoring.exporter import serve
from farm.monitoring.worker_metrics import Sums
from tasks.celery import settings

_sums: list[Sums] = []


@worker_init.connect
def _open(**_: Any) -> None:
    """Before any child is there, so that all of them have the pipe."""
    if settings.metrics_at:
        _sums.append(Sums())
        metrics.listen(_sums[0].tell)


@worker_ready.connect
def _serve(**_: Any) -> None:
    """After the first children were forked; a worker whose port is taken works all the same, and says so."""
    if settings.metrics_at and _sums:
        threading.Thread(target=_sums[0].add_up, name="numbers", daemon=True).start()
        try:
            serve(_sums[0].registry, settings.metrics_at)
        except OSError as error:
            log("numbers_not_served", address=settings.metrics_address, reason=str(error))
