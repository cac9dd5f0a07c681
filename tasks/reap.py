"""The reaper, sent by beat: it dispatches the steps of orphaned jobs again."""

import logging

from farm.engine.advance import claim_due_step
from farm.errors import FarmError, FarmUnreachable
from farm.logs import job_context, log
from farm.queue.app import REAP_TASK
from farm.queue.dispatch import dispatch
from farm.queue.inspect import find_lost_messages
from tasks.base import context
from tasks.celery import app, settings


@app.task(name=REAP_TASK)
def reap() -> int:
    """Dispatches every orphaned job again, and returns how many there were."""
    registry = context().registry
    for job_id, step_id in find_lost_messages(registry, after_s=settings.lease_s):
        registry.steps.mark_lost(job_id, step_id)
    return sum(_redispatch(job_id) for job_id in registry.jobs.orphaned())


def _redispatch(job_id: str) -> bool:
    """Whether a message was sent. A job whose record is unreadable does not hold up the others."""
    with job_context(job_id):
        try:
            step = claim_due_step(context(), job_id)
            if step is None:
                return False
            log("redispatched", step_id=step.id)
            dispatch(app, context(), job_id, step)
        except FarmUnreachable:
            raise
        except Exception as error:
            # Other messages may quote what was read, a request with its signed URLs for instance.
            reason = error.message if isinstance(error, FarmError) else type(error).__name__
            log("redispatch_failed", level=logging.ERROR, reason=reason)
            return False
        return True
