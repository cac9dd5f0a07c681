"""A worker does not start whose store and registry belong to two farms, or whose queues are there
with other arguments.
"""

from __future__ import annotations

import logging
from math import inf

from celery.signals import worker_init

from farm.engine.context import open_context
from farm.engine.identity import check_identity
from farm.errors import FarmUnreachable, UploadFailed
from farm.logs import log
from farm.queue.brokers import open_broker
from farm.retry import retry_until
from farm.tasks.celery import settings

RETRY_DELAY_S = 1.0
MAX_RETRY_DELAY_S = 30.0


@worker_init.connect
def check(**_: object) -> None:
    """Exits if they do, or if broker, registry or store stay down for FARM_START_TIMEOUT_S."""
    try:
        retry_until(
            _check_once,
            timeout_s=settings.start_timeout_s or inf,
            is_retryable=_is_down,
            delay_s=RETRY_DELAY_S,
            max_delay_s=MAX_RETRY_DELAY_S,
            on_retry=_log_retry,
        )
    except Exception as error:  # Celery would only log it
        log("worker_refused", level=logging.ERROR, reason=str(error))
        raise SystemExit(1) from None


def _check_once() -> None:
    check_identity(open_context(settings))
    open_broker(settings).declare_queues()


def _is_down(error: Exception) -> bool:
    return isinstance(error, FarmUnreachable | UploadFailed) and error.retryable


def _log_retry(error: Exception, delay_s: float) -> None:
    log("start_delayed", level=logging.WARNING, reason=str(error), retry_after_s=delay_s)
