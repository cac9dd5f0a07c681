"""The reaper's round, sent by beat: jobs that nobody works on go on."""

import logging

from farm.engine.attempt import due
from farm.errors import FarmUnreachable
from farm.logs import job_context, log
from farm.queue.app import DESKS
from farm.queue.dispatch import send
from farm.queue.inspect import lost
from tasks.base import context
from tasks.celery import app, settings


@app.task(name=DESKS["reap"].task)
def reap() -> int:
    """How many jobs had to be rung for."""
    registry = context().registry
    for job_id, step_id in lost(registry, after_s=settings.lease_s):
        registry.lost(job_id, step_id)
    return sum(_rung(job_id) for job_id in registry.idle())


def _rung(job_id: str) -> bool:
    """Whether a job had to be rung for. One whose record cannot be read keeps no other from going on."""
    with job_context(job_id):
        try:
            if step := due(context(), job_id):
                log("rung_again", step_id=step.id)
                send(app, context(), job_id, step)
            return step is not None
        except FarmUnreachable:
            raise
        except Exception as error:
            log("not_rung", level=logging.ERROR, reason=type(error).__name__)
            return False
