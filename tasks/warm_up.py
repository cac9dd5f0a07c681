"""The model of a gpu worker, loaded before its first message."""

from __future__ import annotations

import mmap

from celery.signals import worker_process_init

from farm.logs import log
from farm.route import STEP_SPECS
from tasks.celery import app, settings

_warm = mmap.mmap(-1, 1)
"""A byte that the worker shares with its children: the model is loaded in a child."""


def is_warm() -> bool:
    """Whether this worker can run a step at once; one without a model always can."""
    return not _needs_model() or _warm[0] == 1


@worker_process_init.connect
def warm_up(**_: object) -> None:
    """Loads the model in a child. A failure is reported by the first job that needs the model."""
    if not _needs_model():
        return
    from farm.steps.generate import warm_pipeline

    _warm[0] = 0
    try:
        warm_pipeline(settings, settings.presets[0])
    except Exception as error:
        log("warm_up_failed", reason=f"{type(error).__name__}: {error}")
    else:
        _warm[0] = 1


def _needs_model() -> bool:
    return STEP_SPECS["generate"].queue in app.amqp.queues.consume_from
