"""How a message runs its step, and what remains of its chain."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

from celery import Signature, Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import task_postrun, task_prerun
from celery.worker.request import Request

from farm.engine.attempt import Attempt, Hooks
from farm.engine.context import Context, open_context
from farm.engine.step_context import WorkerDraining
from farm.errors import UnknownJob
from farm.logs import JOB, job_context, log
from farm.queue.dispatch import remaining_chain, signatures
from farm.queue.turns import HostTurns
from farm.route import Step
from farm.steps import step_function
from farm.tasks.celery import app, settings
from farm.tasks.drain import draining
from farm.tasks.health import progressed


@cache
def context() -> Context:
    """The context of the steps, opened once; they wait for a broker that is down."""
    return open_context(settings, keep_trying=lambda: not draining())


hooks = Hooks(
    step_function,
    timeout_error=SoftTimeLimitExceeded,
    draining=draining,
    progressed=progressed,
    turn=HostTurns(app, context, per_host=settings.downloads_per_host).turn,
)


class StepRequest(Request):
    """A delivered message in its worker, which logs a killed or late child under the job's id."""

    @property
    def job_id(self) -> str | None:
        """None for a message without arguments."""
        return next(iter(self.args or ()), None)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        with job_context(self.job_id):
            super().on_timeout(soft, timeout)

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        with job_context(self.job_id):
            return super().on_failure(*args, **kwargs)


class StepTask(Task):
    """A message of the chain; when it has succeeded, Celery sends the next."""

    Request = "farm.tasks.base:StepRequest"


@task_prerun.connect
def _set_job(task: Task, args: tuple[Any, ...], **_: Any) -> None:
    """Celery logs a task, its failure for instance, after the step has ended."""
    JOB.set(next(iter(args), None) if isinstance(task, StepTask) else None)


@task_postrun.connect
def _reset_job(**_: Any) -> None:
    JOB.set(None)


def run_step_task(task: Task, job_id: str, step: Step) -> str:
    """Runs a step, if it is its turn, and edits the rest of the message's chain."""
    try:
        after = Attempt(context(), job_id, step, hooks).run()
    except WorkerDraining as draining_worker:
        raise Reject(str(draining_worker), requeue=True) from None
    log("step_task_done", task_id=task.request.id, sends=after.id if after else None)

    def signature_of(step: Step) -> Signature:
        (signature,) = signatures(app, context(), job_id, [step])
        return signature

    # The last message of a chain has none.
    task.request.chain = remaining_chain(task.request.chain or [], step, after, signature_of)
    if after is not None:
        return f"{step.id}: on to {after.id}"
    if not step.spec.runs_after_end and is_cancelled(job_id):
        revoke(task)
    return f"{step.id}: nothing to send"


def is_cancelled(job_id: str) -> bool:
    """Whether a job was cancelled, or deleted."""
    try:
        return context().registry.jobs.last_status(job_id).state == "cancelled"
    except UnknownJob:
        return True


def revoke(task: Task) -> NoReturn:
    """Ends a message of a cancelled job as REVOKED, as Celery's monitors call it.

    Celery's own revoking lives in the memory of running workers; the registry also reaches those
    that start later.
    """
    task.send_event("task-revoked", terminated=False, signum=None, expired=False)
    raise Ignore("its job was cancelled")
