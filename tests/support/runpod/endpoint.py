"""The queue of one endpoint and its workers; used in one event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.runpod.job import RemoteJob

WATCH_S = 0.05
"""Between two looks for lost workers, and for jobs whose time is over."""


@dataclass
class Rules:
    """Times in seconds; the defaults are Runpod's but for those of workers, which are short."""

    poll_s: float = 5.0
    """How long a worker's request for a job, or for a stop, is held open."""
    lost_s: float = 10.0
    """Without a ping for this long a worker is lost, and its jobs are queued again."""
    execution_s: float = 600.0
    ttl_s: float = 86_400.0
    kept_s: float = 1800.0
    """Of a result of /run."""
    kept_sync_s: float = 60.0
    """Of a result of /runsync."""


@dataclass
class RemoteWorker:
    id: str
    seen_at: float = field(default_factory=time.monotonic)
    stops: list[str] = field(default_factory=list)
    """The jobs that it is to be told to stop."""
    pings: int = 0
    is_lost: bool = False


@dataclass
class Endpoint:
    name: str
    rules: Rules = field(default_factory=Rules)
    jobs: dict[str, RemoteJob] = field(default_factory=dict)
    """Those that are not forgotten."""
    all_jobs: list[RemoteJob] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)
    workers: dict[str, RemoteWorker] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    watching: asyncio.Task[None] | None = None

    async def submit(self, body: dict[str, Any], *, is_sync: bool = False) -> RemoteJob:
        policy = body.get("policy") or {}
        job = RemoteJob(
            id=f"{secrets.token_hex(8)}-{'u' if not is_sync else 'sync'}1",
            body=body,
            kept_s=self.rules.kept_sync_s if is_sync else self.rules.kept_s,
            execution_s=policy.get("executionTimeout", 1000 * self.rules.execution_s) / 1000,
            ttl_s=policy.get("ttl", 1000 * self.rules.ttl_s) / 1000,
            is_low_priority=bool(policy.get("lowPriority")),
        )
        self.jobs[job.id] = job
        self.all_jobs.append(job)
        self.queue.append(job.id)
        await self.announce()
        return job

    async def take(self, worker_id: str, count: int) -> list[RemoteJob]:
        """Up to that many jobs, as soon as there is one; none after the poll's time."""
        worker = self.worker(worker_id)
        await self.wait(lambda: self.queue, self.rules.poll_s)
        ids, self.queue[:count] = self.queue[:count], []
        if ids:
            worker.seen_at = time.monotonic()  # its next ping is awaited from now on
        jobs = [self.jobs[job_id] for job_id in ids]
        for job in jobs:
            job.become("IN_PROGRESS")
            job.started_at, job.worker = time.monotonic(), worker.id
            job.runs.append(worker.id)
        await self.announce()
        return jobs

    async def stops(self, worker_id: str) -> list[str]:
        """The jobs that a worker is to stop, as soon as there is one."""
        worker = self.worker(worker_id)
        await self.wait(lambda: worker.stops, self.rules.poll_s)
        stops, worker.stops = worker.stops, []
        return stops

    def ping(self, worker_id: str) -> None:
        worker = self.worker(worker_id)
        worker.seen_at = time.monotonic()
        worker.pings += 1
        worker.is_lost = False

    def worker(self, worker_id: str) -> RemoteWorker:
        return self.workers.setdefault(worker_id, RemoteWorker(worker_id))

    async def post(self, job_id: str, worker_id: str, result: dict[str, Any]) -> None:
        """Takes a result, or progress; what comes after the end is noted and changes nothing."""
        job = next(each for each in self.all_jobs if each.id == job_id)
        if result.get("status") == "IN_PROGRESS":
            job.progress.append(result["output"])
            if job.status == "IN_PROGRESS":
                job.output = result["output"]
        else:
            job.posts.append(result)
            if not job.ended:
                self._finish(job, worker_id, result)
        await self.announce()

    async def add_part(self, job_id: str, part: dict[str, Any]) -> None:
        self.jobs[job_id].parts.append(part["output"])
        await self.announce()

    async def cancel(self, job: RemoteJob) -> None:
        if not job.ended:
            self._stop(job, "CANCELLED")
            await self.announce()

    async def retry(self, job: RemoteJob) -> None:
        """Queues a job again, whatever has become of it."""
        job.output = job.error = job.started_at = job.ended_at = None
        job.streamed = 0
        job.submitted_at = time.monotonic()
        self.jobs[job.id] = job
        self._requeue(job)
        await self.announce()

    async def purge(self) -> int:
        ids, self.queue[:] = list(self.queue), []
        for job_id in ids:
            self._stop(self.jobs[job_id], "CANCELLED")
        await self.announce()
        return len(ids)

    async def forget(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)

    def health(self) -> dict[str, dict[str, int]]:
        busy = {job.worker for job in self.jobs.values() if job.status == "IN_PROGRESS"}
        alive = [worker.id for worker in self.workers.values() if not worker.is_lost]
        running = len(busy.intersection(alive))
        return {
            "jobs": {
                "completed": self.ended["COMPLETED"],
                "failed": self.ended["FAILED"],
                "inProgress": sum(job.status == "IN_PROGRESS" for job in self.jobs.values()),
                "inQueue": len(self.queue),
                "retried": self.retried,
            },
            "workers": {
                "idle": len(alive) - running,
                "initializing": 0,
                "ready": len(alive),
                "running": running,
                "throttled": 0,
                "unhealthy": 0,
            },
        }

    async def wait(self, condition: Callable[[], object], seconds: float) -> None:
        """Returns once the condition is true, or after the seconds."""
        try:
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(condition)
        except TimeoutError:
            pass

    async def announce(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def watch(self) -> None:
        """Finds lost workers, and ends jobs whose time is over; runs for ever."""
        while True:
            now = time.monotonic()
            for job in [each for each in self.jobs.values() if each.is_over(now)]:
                self._stop(job, "TIMED_OUT")
            for job in [each for each in self.jobs.values() if self._is_lost(each, now)]:
                self.retried += 1
                self._requeue(job)
            for job in [each for each in self.jobs.values() if each.is_forgotten(now)]:
                del self.jobs[job.id]
            await self.announce()
            await asyncio.sleep(WATCH_S)

    def _is_lost(self, job: RemoteJob, now: float) -> bool:
        if job.status != "IN_PROGRESS" or job.worker is None:
            return False
        worker = self.workers[job.worker]
        worker.is_lost = now > worker.seen_at + self.rules.lost_s
        return worker.is_lost

    def _requeue(self, job: RemoteJob) -> None:
        job.become("IN_QUEUE")
        job.worker = job.started_at = None
        self.queue.append(job.id)

    def _stop(self, job: RemoteJob, status: str) -> None:
        if job.id in self.queue:
            self.queue.remove(job.id)
        if job.worker is not None:
            self.workers[job.worker].stops.append(job.id)
        job.become(status)
        job.output = None
        self.ended[status] += 1

    def _finish(self, job: RemoteJob, worker_id: str, result: dict[str, Any]) -> None:
        if job.id in self.queue:
            self.queue.remove(job.id)
        job.output, job.error = result.get("output"), result.get("error")
        job.worker = worker_id
        job.become("FAILED" if job.error else "COMPLETED")
        self.ended[job.status] += 1
