"""Jobs of which the store is left, and their recovery from it."""

from __future__ import annotations

from dataclasses import replace

from farm.caller import LOCAL
from farm.engine import journal
from farm.engine.context import Context
from farm.job import JobRequest
from farm.maintenance.recover import Recovered, recover
from farm.registry import open_registry
from farm.registry.formats import dump
from farm.registry.outputs import StepOutput
from farm.store import integrity, keys
from tests.support.attempts import attempt
from tests.support.jobs import REQUEST
from tests.support.outputs import committed, embed_output, mux_output, output_of


def enter(ctx: Context, job_id: str, request: JobRequest = REQUEST, *, caller: str = LOCAL) -> None:
    journal.record_request(ctx, job_id, request, caller)
    ctx.registry.entries.add(job_id, request, caller=caller)


def store_output(
    ctx: Context,
    step_id: str,
    number: int = 1,
    *,
    inputs: dict[str, int] | None = None,
    output: StepOutput | None = None,
    digests: dict[str, str] | None = None,
) -> None:
    """Leaves in the store what a complete attempt at a step of `a` leaves."""
    envelope = committed(
        output or output_of(step_id),
        attempt_id=attempt(number),
        inputs={step_id: attempt(number) for step_id, number in (inputs or {}).items()},
        digests=digests,
    )
    ctx.store.put(keys.attempt("a", step_id, attempt(number), "segment.m4s"), b"0123456789")
    key = keys.attempt("a", step_id, attempt(number), keys.OUTPUT)
    integrity.put_sealed(ctx.store, key, dump(envelope).encode())


def store_chunks(ctx: Context, last: int, *, chunks: int = 3) -> None:
    """Leaves the first attempts at download, embed and the chunks up to the last one."""
    store_output(ctx, "download")
    store_output(ctx, "embed", inputs={"download": 1}, output=embed_output(chunks=chunks))
    for chunk in range(last + 1):
        before = {f"generate-{chunk - 1:04d}": 1} if chunk else {}
        store_output(ctx, f"generate-{chunk:04d}", inputs={"embed": 1, **before})


def store_video(ctx: Context, *, chunk_attempt: int = 1) -> None:
    """Leaves the video of a job of one chunk."""
    inputs = {"embed": 1, "generate-0000": chunk_attempt}
    store_output(ctx, "mux", inputs=inputs, output=mux_output(video_key="jobs/a/video.mp4"))


def lose_broker(ctx: Context) -> Context:
    """The same context after its broker has lost everything."""
    return replace(ctx, registry=open_registry("memory://"))


def recover_all(ctx: Context) -> list[Recovered]:
    return [recover(ctx, job_id, job_keys) for job_id, job_keys in journal.stored_jobs(ctx.store)]


def recover_one(ctx: Context) -> Recovered:
    (only,) = recover_all(ctx)
    return only
