"""Steps as Celery messages: the chain of a new job, and the rest of one that is under way. Imports no task."""

from __future__ import annotations

from celery import Celery, Signature, chain

from farm.app import DESKS, PRIORITIES
from farm.steps.place import Place
from farm.steps.route import Step, following


def ticket(app: Celery, place: Place, job_id: str, step: Step) -> Signature:
    """The message for one step: ids and numbers only, with a task id that a person can read in Flower."""
    desk = DESKS[step.station]
    chunk = (step.chunk,) if step.station == "generate" else ()
    name = f"c{step.chunk:04d}" if chunk else step.station
    attempt = max(1, place.registry.rings(job_id, step.product))
    options = {
        "queue": desk.queue,
        "priority": PRIORITIES[place.registry.request(job_id).priority],
        "task_id": f"{job_id}-{name}-a{attempt}",
    }
    return app.signature(desk.task, args=(job_id, *chunk), immutable=True, options=options)


def send(app: Celery, place: Place, job_id: str, step: Step) -> None:
    """Sends the chain from a step to the end; there is one `generate` in it, and each chunk puts the next one in."""
    way = [step]
    while (after := following(way[-1], chunks=way[-1].chunk + 1)) is not None:
        way.append(after)
    chain(*(ticket(app, place, job_id, each) for each in way)).apply_async()
    place.registry.sent(job_id, step.product, window_s=place.settings.ring_s)
