"""One message, from its arrival to what is sent after it."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded

from farm.steps.attempt import perform
from farm.steps.place import Place, open_place
from farm.steps.route import Step
from farm.telemetry import log
from farm.workflow import ticket
from tasks import app, settings


@cache
def place() -> Place:
    """This process's way to the registry and the store, opened once."""
    return open_place(settings)


class Ticket(Task):
    """A message of the chain; when one has succeeded, Celery has sent the next."""

    def on_success(self, retval: str, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if product := getattr(self.request, "sends", None):
            place().registry.sent(args[0], product, window_s=settings.ring_s)


def deliver(task: Task, job_id: str, step: Step) -> str:
    """Performs a step and edits the rest of the message's chain: the next chunk goes in front of it, a copy ends it."""
    after = perform(place(), job_id, step, time_is_up=SoftTimeLimitExceeded)
    log("ticket_done", job_id=job_id, task_id=task.request.id, sends=after and after.product)
    rest = task.request.chain or []
    if after is None:
        rest.clear()
        return f"{step.product}: nothing to send"
    if after.station == step.station:
        rest.append(ticket(app, place(), job_id, after))
    task.request.sends = after.product
    return f"{step.product}: on to {after.product}"
