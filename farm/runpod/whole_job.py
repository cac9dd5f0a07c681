"""A whole job in one serverless worker: every step in this process, its progress in the store.

A worker may die or run out of time at any moment. What it has committed is in the store, and the
same request, sent again or rerun by Runpod, goes on from there on any worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farm.client import Farm
from farm.client.farm import INLINE
from farm.engine.advance import chunk_count, claim_due_step
from farm.engine.attempt import Attempt, Hooks
from farm.engine.context import Context
from farm.engine.step_context import StepFunctions, WorkerDraining
from farm.errors import TimedOut
from farm.job import JobStatus
from farm.job.seed import RANDOM, draw_seed
from farm.maintenance.recover import recover
from farm.registry.outputs import ChunkOutput, MuxOutput
from farm.route import MUX, Step
from farm.runpod.failure import describe, redact
from farm.runpod.guarded import guarded
from farm.runpod.limit import TimeLimit
from farm.runpod.owner import Owner, digest
from farm.runpod.turn import GpuTurn
from farm.settings import Settings
from farm.steps import step_function
from farm.store import keys

POLL_INTERVAL_S = 0.2
"""Pause before a step that is to be retried is looked for again."""

Answer = dict[str, Any]
ChunkDone = Callable[[Answer], None]


class Interrupted(Exception):
    """The job was cancelled, or its worker is shutting down: no answer is awaited."""


def ignore(_: Answer) -> None:
    """For those who do not stream."""


@dataclass
class WholeJob:
    """One request on this worker."""

    settings: Settings
    remote_id: str
    """The id of the serverless job."""
    gpu: GpuTurn
    limit: TimeLimit
    stopped: Callable[[], bool]
    chunk_done: ChunkDone = ignore
    steps: StepFunctions = step_function
    farm: Farm = field(init=False)
    job_id: str | None = None
    _due: Step | None = None

    def __post_init__(self) -> None:
        self.farm = Farm(INLINE, settings=self.settings, local_files=False)
        self.farm.transport = self

    @property
    def _ctx(self) -> Context:
        return self.farm.context

    def dispatch(self, job_id: str, step: Step) -> None:
        """Takes the first step of a submitted job, as the transport of its farm."""
        self._due = step

    def run(self, fields: Mapping[str, Any]) -> Answer:
        """The contract's result, also of a failure; raises Interrupted."""
        try:
            self.job_id = self._enter(_with_seed(fields, self.remote_id))
            self._announce_chunks()
            self._run_steps(self.job_id)
            return self._result(self._ctx.registry.jobs.status(self.job_id))
        except WorkerDraining:
            if self.stopped():
                raise Interrupted from None
            return self._failed(self._out_of_time())
        except Exception as error:
            return self._failed(error)

    def newest(self) -> Answer | None:
        """The last stage of the job; None before it has one."""
        if self.job_id is None:
            return None
        status = self._ctx.registry.jobs.status(self.job_id)
        return {
            "stage": status.stage,
            "pct": status.pct,
            "job_id": status.job_id,
            "details": status.details,
            "warnings": status.warnings,
        }

    def _enter(self, fields: dict[str, Any]) -> str:
        """The id of the job of this request, with all that the store has of it, or a new one."""
        store = self._ctx.store
        owner = Owner.read(store, fields)
        if owner is None or not self._resume(owner):
            job_id = self.farm.submit(fields).id
            owner = Owner(job_id=job_id, remote_id=self.remote_id, digest=digest(fields))
        owner.model_copy(update={"remote_id": self.remote_id}).write(store, fields)
        return owner.job_id

    def _resume(self, owner: Owner) -> bool:
        """Restores a job that the request led to before; False if it has to be made anew."""
        job_keys = self._ctx.store.keys(keys.job(owner.job_id))
        self._due = recover(self._ctx, owner.job_id, job_keys).step
        if not self._ctx.registry.jobs.exists(owner.job_id):
            return False
        status = self._ctx.registry.jobs.status(owner.job_id)
        if status.state == "success":
            return self._is_fetchable(status)
        # A failure is final for the serverless job that met it, which Runpod may run again.
        return not status.ended or owner.remote_id == self.remote_id

    def _is_fetchable(self, status: JobStatus) -> bool:
        """Whether the video is still there, and its links will be valid for a while."""
        committed = self._ctx.registry.steps.committed(status.job_id, MUX.id)
        if committed is None:
            return False
        age_s = self._ctx.registry.now() - status.updated_at
        key = committed.output_as(MuxOutput).video_key
        return age_s < self.settings.s3_link_s / 2 and self._ctx.store.size(key) is not None

    def _run_steps(self, job_id: str) -> None:
        step, self._due = self._due, None
        hooks = Hooks(lambda kind: guarded(self.steps(kind), self.gpu), draining=self._must_stop)
        while not self._ctx.registry.jobs.status(job_id).ended:
            step = step or claim_due_step(self._ctx, job_id)
            if self._must_stop() or not self._fits(step):
                raise WorkerDraining
            if step is None:
                time.sleep(POLL_INTERVAL_S)
                continue
            step = self._run_step(job_id, step, hooks)

    def _run_step(self, job_id: str, step: Step, hooks: Hooks) -> Step | None:
        started_at = time.monotonic()
        after = Attempt(self._ctx, job_id, step, hooks).run()
        if step.spec.per_chunk:
            self.limit.note_chunk(time.monotonic() - started_at)
            self._announce(step)
        return after

    def _must_stop(self) -> bool:
        return self.stopped() or self.limit.is_up()

    def _fits(self, step: Step | None) -> bool:
        return step is None or not step.spec.per_chunk or self.limit.allows_chunk()

    def _announce_chunks(self) -> None:
        """Announces the chunks that are there already."""
        for chunk in self._chunks_done():
            self._announce(Step("generate", chunk))

    def _announce(self, step: Step) -> None:
        """Tells who streams the job of a chunk that is done."""
        committed = self._committed(step)
        if committed is None:
            return
        output = committed.output_as(ChunkOutput)
        self.chunk_done(
            {
                "job_id": self.job_id,
                "chunk": step.chunk,
                "chunks": chunk_count(self._ctx, self.job_id or ""),
                "frames": output.frames,
                "url": self._shown(self._ctx.store.url(output.segment_key)),
                "init_url": self._shown(self._ctx.store.url(output.init_key)),
            }
        )

    def _committed(self, step: Step) -> Any:
        return self._ctx.registry.steps.committed(self.job_id or "", step.id)

    def _chunks_done(self) -> list[int]:
        if self.job_id is None:
            return []
        chunks = range(chunk_count(self._ctx, self.job_id) or 0)
        return [chunk for chunk in chunks if self._committed(Step("generate", chunk))]

    def _out_of_time(self) -> TimedOut:
        done = len(self._chunks_done())
        chunks = chunk_count(self._ctx, self.job_id) if self.job_id else None
        return TimedOut(
            f"{done} of {'the' if chunks is None else chunks} chunks are done and the time is "
            "nearly up; the same request goes on from there, a random seed named as in params",
            retryable=True,
        )

    def _failed(self, error: Exception) -> Answer:
        """The result for a failure, with what is kept of a job that can go on."""
        if self.job_id is None:
            return {"job_id": None, "status": "error", "error": describe(error, at_stage="queued")}
        status = self._ctx.registry.jobs.status(self.job_id)
        if status.ended:
            return self._result(status)
        request = self._ctx.registry.jobs.request(self.job_id)
        return {
            "job_id": self.job_id,
            "status": "error",
            "error": describe(error, at_stage=status.stage),
            "chunks": chunk_count(self._ctx, self.job_id),
            "chunks_done": self._chunks_done(),
            "params": {"base_seed": request.base_seed},
        }

    def _result(self, status: JobStatus) -> Answer:
        if status.result is None:
            raise LookupError(f"job {status.job_id} has ended without a result")
        result = status.result.model_dump(mode="json")
        if result["error"] is None:
            del result["error"]
            return self._with_shown_urls(result)
        return {**result, "error": redact(result["error"])}

    def _with_shown_urls(self, result: Answer) -> Answer:
        video = result["video"]
        for name in ("url", "thumbnail_url"):
            video[name] = self._shown(video[name])
        for artifact in result["artifacts"]:
            artifact["url"] = self._shown(artifact["url"])
        return result

    def _shown(self, url: str) -> str:
        """A URL for the caller: of a store in a folder the key, not the path on this worker."""
        root = f"{self.settings.store_address.rstrip('/')}/"
        return keys.SCHEME + url.removeprefix(root) if url.startswith("file://") else url


def _with_seed(fields: Mapping[str, Any], remote_id: str) -> dict[str, Any]:
    """The fields with a random seed drawn: once for all runs of a serverless job."""
    if fields.get("base_seed") != RANDOM or fields.get("idempotency_key"):
        return dict(fields)
    return {**fields, "base_seed": draw_seed(remote_id)}
