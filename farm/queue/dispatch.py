"""Steps as Celery messages: the chain of a new job, and the rest of one that is under way. Imports no task."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery, Signature, chain

from farm.engine.context import Context
from farm.engine.route import NOTIFY, Step, following
from farm.queue.app import DESKS, PRIORITIES


def tickets(app: Celery, ctx: Context, job_id: str, way: Sequence[Step]) -> list[Signature]:
    """A message for each step."""
    rings = ctx.registry.rings(job_id, [step.id for step in way])
    asked = ctx.registry.request(job_id).priority
    known = ctx.registry.output(job_id, "embed") if way[0].kind == "generate" else None
    chunks = (known or {}).get("chunks")
    return [
        # A receiver that never answers must not hold up the steps of jobs that have not ended.
        _ticket(
            app,
            job_id,
            step,
            priority=PRIORITIES["low" if step == NOTIFY else asked],
            attempt=max(1, times),
            chunks=chunks,
        )
        for step, times in zip(way, rings, strict=True)
    ]


def _ticket(app: Celery, job_id: str, step: Step, *, priority: int, attempt: int, chunks: int | None) -> Signature:
    """The message for one step: ids and numbers only, which Flower shows so that a person can read them."""
    desk = DESKS[step.kind]
    chunk = (step.chunk,) if step.kind == "generate" else ()
    name = f"c{step.chunk:04d}" if chunk else step.kind
    options = {
        "queue": desk.queue,
        "priority": priority,
        "task_id": f"{job_id}-{name}-a{attempt}",
        "argsrepr": _shown(job_id, step, chunks),
    }
    return app.signature(desk.task, args=(job_id, *chunk), immutable=True, options=options)


def _shown(job_id: str, step: Step, chunks: int | None) -> str:
    """A message's arguments for people, who count from 1: the job, and which chunk of how many once that is known."""
    if step.kind != "generate":
        return f"job {job_id}"
    return f"job {job_id}, chunk {step.chunk + 1}" + (f" of {chunks}" if chunks else "")


def send(app: Celery, ctx: Context, job_id: str, step: Step) -> None:
    """Sends the chain from a step to the end; there is one `generate` in it, and each chunk puts the next one in."""
    way = [step]
    while (after := following(way[-1], chunks=way[-1].chunk + 1)) is not None:
        way.append(after)
    chain(*tickets(app, ctx, job_id, way)).apply_async()
