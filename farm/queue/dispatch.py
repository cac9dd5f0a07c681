"""Steps as Celery messages: the chain of a new job, and what remains of one under way.

Imports no task: clients, which send the messages, do not have them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from celery import Celery, Signature

from farm.engine.advance import fail_job
from farm.engine.context import Context
from farm.errors import FarmError, FarmUnreachable, VersionSkew
from farm.logs import job_context, log
from farm.queue.brokers import broker_class
from farm.queue.routing import priority_of, queue_of
from farm.registry.formats import FORMAT
from farm.registry.outputs import chunks_of
from farm.route import EMBED, Queue, Step, next_step

FORMAT_HEADER = "farm_format"
"""The header of a message that has its format's version."""


def dispatch(app: Celery, ctx: Context, job_id: str, step: Step) -> None:
    """Sends the chain from a step to the end of the job.

    It holds one `generate` only: each chunk puts the next one into the chain.
    """
    steps = [step]
    while True:
        # The last chunk so far counts as the last of all.
        after = next_step(steps[-1], chunks=steps[-1].chunk + 1)
        if after is None:
            break
        steps.append(after)
    first, *rest = signatures(app, ctx, job_id, steps)
    # What `celery.chain` sends, which would copy each signature several times on the way.
    first.apply_async(chain=rest[::-1])


def redispatch(
    app: Celery, ctx: Context, job_id: str, claim: Callable[[Context, str], Step | None]
) -> bool:
    """Whether the step that `claim` returns was dispatched.

    FarmUnreachable apart, an error is logged: a job whose record is unreadable is ended, and does
    not hold up the others.
    """
    with job_context(job_id), ending_unreadable(ctx, job_id):
        try:
            step = claim(ctx, job_id)
            if step is None:
                return False
            log("redispatched", step_id=step.id)
            dispatch(app, ctx, job_id, step)
        except (FarmUnreachable, VersionSkew):
            raise
        except Exception as error:
            # Other messages may quote what was read, a request with its signed URLs for instance.
            reason = error.message if isinstance(error, FarmError) else type(error).__name__
            log("redispatch_failed", level=logging.ERROR, reason=reason)
            return False
        return True
    return False


@contextmanager
def ending_unreadable(ctx: Context, job_id: str) -> Iterator[None]:
    """Ends a job of which this version cannot read a record, instead of trying again for ever."""
    try:
        yield
    except VersionSkew as error:
        log("job_unreadable", level=logging.ERROR, reason=error.message)
        fail_job(ctx, job_id, error, at_stage="dispatch")


def signatures(app: Celery, ctx: Context, job_id: str, steps: Sequence[Step]) -> list[Signature]:
    """A message for each step. The dispatch of the first one was just claimed by this process; the
    others are sent for the first time.
    """
    first, *others = steps
    record = ctx.registry.steps.last_record(job_id, first.id)
    request = ctx.registry.jobs.request(job_id)
    chunks = None
    if first.kind == "generate":
        chunks = chunks_of(ctx.registry.steps.last_record(job_id, EMBED.id).committed)
    priorities = broker_class(ctx.settings).priorities

    def message(step: Step, queue: Queue, number: int) -> Signature:
        return _signature(
            app,
            job_id,
            step,
            queue=queue,
            number=number,
            chunks=chunks,
            priority=priorities[priority_of(step, request)],
        )

    queue: Queue = "bridge" if record.waits_for_bridge else queue_of(first, request)
    return [
        message(first, queue, max(1, record.dispatches)),
        *(message(step, queue_of(step, request), 1) for step in others),
    ]


def remaining_chain(
    rest: Sequence[Signature],
    step: Step,
    after: Step | None,
    signature_of: Callable[[Step], Signature],
) -> list[Signature]:
    """The chain behind a message whose step was run, in Celery's order: the next message last.

    `after` is the step that this message may send, None if another message does. In the order of
    execution:

        step            after           rest                 becomes
        download        embed           embed generate-0 mux embed generate-0 mux
        embed           generate-0      generate-0 mux       generate-0' mux
        generate-0      generate-1      mux                  generate-1 mux
        generate-1      mux             mux                  mux
        mux             notify          (empty)              notify
        any             None            any                  (empty)

    The message of generate-0 is replaced (') because it was signed before the number of chunks was
    known, which its description in Flower shows.
    """
    if after is None:
        return []
    if step.kind == "embed":
        return [*rest[:-1], signature_of(after)]
    if after.kind == "generate" or after.spec.runs_after_end:
        return [*rest, signature_of(after)]
    return list(rest)


def _signature(
    app: Celery,
    job_id: str,
    step: Step,
    *,
    queue: Queue,
    number: int,
    chunks: int | None,
    priority: int,
) -> Signature:
    """The message of one step: ids and numbers only, readable in Flower."""
    per_chunk = step.spec.per_chunk
    name = f"c{step.chunk:04d}" if per_chunk else step.kind
    return app.signature(
        f"farm.{step.kind}",
        args=(job_id, step.chunk) if per_chunk else (job_id,),
        immutable=True,
        options={
            "queue": queue,
            "priority": priority,
            "task_id": f"{job_id}-{name}-a{number}",
            "argsrepr": _description(job_id, step, chunks),
            "headers": {FORMAT_HEADER: FORMAT},
        },
    )


def _description(job_id: str, step: Step, chunks: int | None) -> str:
    """What Flower shows of a message."""
    if not step.spec.per_chunk:
        return f"job {job_id}"
    of_all = "" if chunks is None else f" of {chunks}"
    return f"job {job_id}, chunk {step.chunk + 1}{of_all}"  # people count from 1
