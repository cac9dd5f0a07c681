"""The model of a gpu worker, loaded before its first message."""

from __future__ import annotations

import logging
import mmap

from celery.signals import worker_process_init

from farm.logs import log
from farm.tasks.celery import settings
from farm.tasks.kind import worker_kind

LOADING, WARM, COLD = range(3)

_state = mmap.mmap(-1, 1)
"""A byte that the worker shares with its children: the model is loaded in a child."""

_killed = mmap.mmap(-1, 1)
"""How many children in a row have begun to load the model without an end of it: 1 at first."""


def is_warm() -> bool:
    """Whether this worker can run a step at once; one without a model always can."""
    return worker_kind() != "gpu" or _state[0] == WARM


def is_loading() -> bool:
    """Whether the model is being loaded before the first message."""
    return worker_kind() == "gpu" and _state[0] == LOADING


def has_failed() -> bool:
    """Whether the model could not be loaded, and no job has loaded it since."""
    return worker_kind() == "gpu" and (_state[0] == COLD or _killed[0] > 1)


def set_warm() -> None:
    """Says that the model is loaded: a job may have loaded it after this module could not."""
    _state[0] = WARM


@worker_process_init.connect
def warm_up(**_: object) -> None:
    """Loads the model in a child. A failure is reported by the first job that needs the model."""
    if worker_kind() != "gpu":
        return
    from farm.steps.generate import warm_pipeline

    report_killed()
    _state[0] = LOADING
    try:
        warm_pipeline(settings, settings.presets[0])
    except Exception as error:
        _state[0] = COLD
        log("warm_up_failed", reason=f"{type(error).__name__}: {error}")
    else:
        set_warm()
    _killed[0] = 0


def report_killed() -> None:
    """Says of the children before why no job begins: those that were killed could not."""
    if _killed[0]:
        reason = "the process that loads the model was killed, most likely for lack of memory"
        log("warm_up_failed", level=logging.ERROR, reason=reason, in_a_row=_killed[0])
    _killed[0] = min(_killed[0] + 1, 255)
