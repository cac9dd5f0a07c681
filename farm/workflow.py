"""Steps as Celery messages: the chain of a new job, and the rest of one that is under way. Imports no task."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery, Signature, chain

from farm.app import DESKS, PRIORITIES
from farm.steps.place import Place
from farm.steps.route import NOTIFY, Step, following


def tickets(app: Celery, place: Place, job_id: str, way: Sequence[Step]) -> list[Signature]:
    """A message for each step."""
    rings = place.registry.rings(job_id, [step.product for step in way])
    asked = place.registry.request(job_id).priority
    # A receiver that never answers must not hold up the steps of jobs that have not ended.
    priorities = [PRIORITIES["low" if step == NOTIFY else asked] for step in way]
    ordered = zip(way, priorities, rings, strict=True)
    return [_ticket(app, job_id, step, priority, max(1, times)) for step, priority, times in ordered]


def _ticket(app: Celery, job_id: str, step: Step, priority: int, attempt: int) -> Signature:
    """The message for one step: ids and numbers only, with a task id that a person can read in Flower."""
    desk = DESKS[step.station]
    chunk = (step.chunk,) if step.station == "generate" else ()
    name = f"c{step.chunk:04d}" if chunk else step.station
    options = {"queue": desk.queue, "priority": priority, "task_id": f"{job_id}-{name}-a{attempt}"}
    return app.signature(desk.task, args=(job_id, *chunk), immutable=True, options=options)


def send(app: Celery, place: Place, job_id: str, step: Step) -> None:
    """Sends the chain from a step to the end; there is one `generate` in it, and each chunk puts the next one in."""
    way = [step]
    while (after := following(way[-1], chunks=way[-1].chunk + 1)) is not None:
        way.append(after)
    chain(*tickets(app, place, job_id, way)).apply_async()
    place.registry.sent(job_id, step.product, window_s=place.settings.ring_s)
