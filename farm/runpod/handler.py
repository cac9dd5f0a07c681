"""The handler of Runpod's serverless workers: `python -m farm.runpod.handler`.

It serves, as the input of each job says, one chunk of a farm's job (an order), one request, or a
batch. The model is loaded before the first job is taken. A worker takes two jobs: while one has the
GPU, the inputs of the other are fetched, since the SDK takes a second to get from one to the next.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from farm.engine.kept_inputs import KeptInputs
from farm.engine.step_context import StepFunctions
from farm.errors import Cancelled, FarmError, InvalidInput, how_to_install
from farm.job import Event
from farm.logs import configure, log
from farm.runpod.batch import open_batch
from farm.runpod.chunk import RemoteChunk
from farm.runpod.drain import Drain
from farm.runpod.failure import describe, redact
from farm.runpod.limit import Clock, TimeLimit
from farm.runpod.payload import Payload
from farm.runpod.progress import reported
from farm.runpod.turn import GpuTurn
from farm.runpod.whole_job import Answer, ChunkDone, Interrupted, WholeJob, ignore
from farm.settings import Settings
from farm.steps import step_function

RUNPODS_OWN = ("RUNPOD_WEBHOOK_GET_JOB", "RUNPOD_REALTIME_PORT")
"""Variables of which Runpod's workers have one; the SDK serves no queue without them."""

LOCAL_OPTIONS = ("--test_input", "--rp_serve_api")
LOCAL_FILE = Path("test_input.json")
"""What the SDK runs on any machine."""

RemoteJob = dict[str, Any]
"""A job as the SDK passes it on: `id`, `input`, and perhaps more."""

SDK_LOG_LEVEL = "INFO"
"""At DEBUG the SDK logs what handlers return, signed URLs included."""


@dataclass
class Handler:
    """The jobs of one worker; `send` is the SDK's progress update."""

    settings: Settings
    send: Callable[[RemoteJob, Answer], None]
    steps: StepFunctions = step_function
    clock: Clock = time.monotonic
    gpu: GpuTurn = field(default_factory=GpuTurn)
    kept: KeptInputs = field(default_factory=KeptInputs)
    drain: Drain = field(init=False)

    def __post_init__(self) -> None:
        self.drain = Drain(self.settings.runpod_concurrency)

    async def answer(self, job: RemoteJob) -> Answer:
        """What the SDK posts as the end of a job; an `error` in it makes the job FAILED."""
        with self.drain.job() as stop:
            return await self._worked(job, stop, self._begin(job, stop, ignore))

    async def stream(self, job: RemoteJob) -> AsyncIterator[Answer]:
        """Each chunk as it is finished, then the result.

        Of an error in a stream the SDK posts the text alone, so that is the error object as JSON.
        """
        loop = asyncio.get_running_loop()
        finished: asyncio.Queue[Answer | None] = asyncio.Queue()

        def chunk_done(chunk: Answer) -> None:
            loop.call_soon_threadsafe(finished.put_nowait, chunk)

        with self.drain.job() as stop:
            work = self._begin(job, stop, chunk_done)
            work.add_done_callback(lambda _: finished.put_nowait(None))
            try:
                while (chunk := await finished.get()) is not None:
                    yield chunk
            except BaseException:
                stop.set()
                raise
            answer = await self._worked(job, stop, work)
            failed = answer.get("error")
            yield {**answer, "error": json.dumps(failed)} if failed else answer

    def _begin(
        self, job: RemoteJob, stop: threading.Event, chunk_done: ChunkDone
    ) -> asyncio.Future[Answer]:
        """The work on a job, in a thread."""
        if self.drain.has_begun:
            raise asyncio.CancelledError
        return asyncio.ensure_future(asyncio.to_thread(self._work, job, stop, chunk_done))

    async def _worked(
        self, job: RemoteJob, stop: threading.Event, work: asyncio.Future[Answer]
    ) -> Answer:
        """What the work returns; if the job is cancelled, the work is stopped and waited for."""
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([work])
            log("remote_job_stopped", remote_id=job["id"])
            raise
        except Interrupted:  # no answer is posted: Runpod runs the job again
            raise asyncio.CancelledError from None

    def _work(self, job: RemoteJob, stop: threading.Event, chunk_done: ChunkDone) -> Answer:
        """The answer to a job, whatever is raised; but Interrupted."""
        try:
            payload = Payload.of(job)
            if payload.kind == "order":
                return self._run_order(job, payload, stop)
            return self._run_requests(job, payload, stop, chunk_done)
        except Interrupted:
            raise
        except BaseException as error:
            code = error.code if isinstance(error, FarmError) else type(error).__name__
            log("remote_job_failed", remote_id=job["id"], code=code, reason=str(error))
            return {"status": "error", "error": describe(error, at_stage="queued")}

    def _run_order(self, job: RemoteJob, payload: Payload, stop: threading.Event) -> Answer:
        events: list[Event] = []
        with closing(RemoteChunk.open(payload.fields, self.settings, self.kept)) as chunk:
            chunk.prefetch()
            with self.gpu.wait(lambda: _raise_if(stop)), self._reported(job, lambda: _last(events)):
                try:
                    return chunk.run(stop, events.append, self.steps)
                except Cancelled:
                    _raise_if(stop)
                    raise

    def _run_requests(
        self, job: RemoteJob, payload: Payload, stop: threading.Event, chunk_done: ChunkDone
    ) -> Answer:
        limit = TimeLimit(self._limit_s(payload), self.clock)

        def open_job() -> WholeJob:
            return WholeJob(
                self.settings, job["id"], self.gpu, limit, stop.is_set, chunk_done, self.steps
            )

        if payload.kind == "batch":
            batch = open_batch(payload.fields, open_job)
            with self._reported(job, batch.newest):
                return batch.run(job["id"])
        whole_job = open_job()
        with self._reported(job, whole_job.newest):
            return whole_job.run(payload.fields)

    def _limit_s(self, payload: Payload) -> float | None:
        """The shortest limit that is known: the endpoint's, or the job's own."""
        known = [self.settings.runpod_execution_s, payload.policy.limit_s]
        return min((limit for limit in known if limit is not None), default=None)

    def _reported(self, job: RemoteJob, newest: Callable[[], Answer | None]) -> Any:
        return reported(newest, lambda shown: self.send(job, redact(shown)))


def main() -> None:
    """Serves jobs with the settings of the environment."""
    _check_place()
    configure()
    try:
        settings = Settings.load(os.environ)
    except InvalidInput as error:
        sys.exit(error.message)
    serve(settings)


def serve(
    settings: Settings, steps: StepFunctions = step_function, clock: Clock = time.monotonic
) -> None:
    """Serves jobs until the worker is stopped; `steps` and `clock` are those of whole jobs."""
    _warm(settings)
    os.environ.setdefault("RUNPOD_DEBUG_LEVEL", SDK_LOG_LEVEL)
    import runpod.serverless

    handler = Handler(settings, runpod.serverless.progress_update, steps, clock)
    with suppress(asyncio.CancelledError):  # how a drained worker ends
        runpod.serverless.start(
            {
                "handler": handler.stream if settings.runpod_streaming else handler.answer,
                "return_aggregate_stream": settings.runpod_streaming,
                "concurrency_modifier": handler.drain.modify_concurrency,
            }
        )


def _check_place() -> None:
    """Ends the process with one sentence where the SDK could not serve; it loads nothing."""
    if find_spec("runpod") is None:
        sys.exit(f"runpod is not installed; {how_to_install('worker,runpod')}")
    is_local = any(each.startswith(LOCAL_OPTIONS) for each in sys.argv[1:]) or LOCAL_FILE.is_file()
    if not is_local and not any(name in os.environ for name in RUNPODS_OWN):
        sys.exit(
            "the handler runs on Runpod's workers, which have RUNPOD_WEBHOOK_GET_JOB; "
            "to try it here: --test_input JSON, or --rp_serve_api"
        )


def _warm(settings: Settings) -> None:
    """Loads the default model; a failure is told to those whose jobs need it."""
    from farm.steps.generate import warm_pipeline

    try:
        warm_pipeline(settings, settings.presets[0])
    except FarmError as error:
        log("model_not_loaded", code=error.code, reason=error.message)


def _raise_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted


def _last(events: list[Event]) -> Answer | None:
    return events[-1].model_dump(mode="json") if events else None


if __name__ == "__main__":
    main()
