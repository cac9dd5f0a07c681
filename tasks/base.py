"""One message, from its arrival to what is sent after it."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import task_postrun, task_prerun
from celery.worker.request import Request

from farm.engine.attempt import perform
from farm.engine.context import Context, open_context
from farm.engine.route import NOTIFY, Step
from farm.engine.step_context import Drained
from farm.logs import JOB, job_context, log
from farm.queue.dispatch import tickets
from tasks.celery import app, settings
from tasks.drain import leaving


@cache
def context() -> Context:
    """This process's way to the registry and the store, opened once."""
    return open_context(settings)


class InHand(Request):
    """A message as its worker sees it, whose lines are about its job: that its child died, or was late."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        with job_context(self.args[0]):
            super().on_timeout(soft, timeout)

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        with job_context(self.args[0]):
            return super().on_failure(*args, **kwargs)


class Ticket(Task):
    """A message of the chain; when one has succeeded, Celery sends the next."""

    Request = "tasks.base:InHand"


@task_prerun.connect
def _begin(task: Task, args: tuple[Any, ...], **_: Any) -> None:
    """What Celery says of a task, of its failure for instance, comes after the step is done."""
    JOB.set(args[0] if isinstance(task, Ticket) else None)


@task_postrun.connect
def _end(**_: Any) -> None:
    JOB.set(None)


def revoke(task: Task) -> NoReturn:
    """Ends a message of a cancelled job as Celery's monitors call it: REVOKED, and nothing after it is sent.

    Celery's own revoking lives in the memory of workers that are up; the registry reaches those that come later too.
    """
    task.send_event("task-revoked", terminated=False, signum=None, expired=False)
    raise Ignore("its job was cancelled")


def deliver(task: Task, job_id: str, step: Step) -> str:
    """Performs a step and edits the rest of the message's chain: the next chunk goes in front of it, the call
    of a webhook behind it, a copy ends it.
    """
    try:
        after = perform(context(), job_id, step, time_is_up=SoftTimeLimitExceeded, leaving=leaving)
    except Drained as stopped:
        raise Reject(str(stopped), requeue=True) from None
    log("ticket_done", task_id=task.request.id, sends=after and after.id)
    rest = task.request.chain = task.request.chain or []  # a message that ends its chain has none
    if after is None:
        if step != NOTIFY and context().registry.job(job_id).state == "cancelled":
            revoke(task)
        rest.clear()
        return f"{step.id}: nothing to send"
    if after.kind in ("generate", NOTIFY.kind):
        if step.kind == "embed":
            rest.pop()  # It was made before anybody knew how many chunks there are.
        rest += tickets(app, context(), job_id, [after])
    return f"{step.id}: on to {after.id}"
