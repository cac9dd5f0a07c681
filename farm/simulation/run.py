"""One run of the simulation.

Chunks wait in one queue, first come, first served. A job has one chunk in it or on a GPU at a
time; when that is done, the next one joins the queue's end. Any of several idle workers takes the
next chunk: each asks the broker anew every second (kombu's `brpop_timeout`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from farm.simulation.fleet import Fleet, Video


@dataclass(frozen=True)
class Sample:
    """The farm at one moment."""

    at: float
    gpus: int
    """Those that are paid for: starting, idle or busy."""
    busy: int
    jobs: int
    """Those that are not done."""


@dataclass
class Outcome:
    """What came of a run; times are in seconds."""

    waits: list[float] = field(default_factory=list)
    """From each submission to the beginning of its first chunk."""
    times: list[float] = field(default_factory=list)
    """From each submission to the end of its last chunk."""
    busy_s: float = 0.0
    paid_s: float = 0.0
    """Of all GPUs, from the decision to start them to their end."""
    lost_chunks: int = 0
    peak_gpus: int = 0
    end: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def idle_share(self) -> float:
        """The share of the paid time in which a GPU made no chunk, or one that was lost."""
        return 1 - self.busy_s / self.paid_s if self.paid_s else 0.0


@dataclass(eq=False)
class _Job:
    arrived_at: float
    chunks: int
    """Those that are left."""
    has_begun: bool = False


@dataclass(eq=False)
class _Worker:
    started_at: float
    idle_since: float = 0.0
    job: _Job | None = None
    gone: bool = False


class Run:
    """The state of a run; events are calls at times."""

    def __init__(self, video: Video, fleet: Fleet, *, seed: int = 0) -> None:
        self.video = video
        self.fleet = fleet
        self.outcome = Outcome()
        self._random = Random(seed)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = count()
        self._queue: deque[_Job] = deque()
        self._idle: list[_Worker] = []
        """In no order; some may be gone, or should have left by now."""
        self._workers: set[_Worker] = set()
        self._busy = 0
        self._jobs = 0
        self._chunks = 0
        """Of all jobs, those that are left."""
        self._submissions = 0
        """Those that are to come."""

    def run(self, arrivals: Sequence[float]) -> Outcome:
        """All of it, from an empty farm to the end of the last job."""
        self._submissions = len(arrivals)
        for at in arrivals:
            self._at(at, self._submit)
        for _ in range(self.fleet.min_gpus):
            self._start(cold_start_s=0.0)
        self._at(0.0, self._poll)
        while self._jobs or self._submissions:
            self._now, _, call, arguments = heappop(self._events)
            call(*arguments)
        self.outcome.end = self._now
        self.outcome.paid_s += sum(self._now - each.started_at for each in self._workers)
        return self.outcome

    def _at(self, at: float, call: Callable[..., None], *arguments: object) -> None:
        """Equal times come in the order in which they were asked for."""
        heappush(self._events, (at, next(self._numbers), call, arguments))

    def _submit(self) -> None:
        self._submissions -= 1
        self._jobs += 1
        self._chunks += self.video.chunks
        job = _Job(self._now, self.video.chunks)
        self._at(self._now + self.video.prepare_s, self._enqueue, job)

    def _enqueue(self, job: _Job) -> None:
        self._queue.append(job)
        self._assign()

    def _assign(self) -> None:
        """Chunks to idle workers, for as long as there are both."""
        while self._queue and self._idle:
            worker = self._take_idle()
            if not worker.gone and not self._has_left(worker):
                self._begin(worker, self._queue.popleft())

    def _take_idle(self) -> _Worker:
        number = int(self._random.random() * len(self._idle))
        worker = self._idle[number]
        self._idle[number] = self._idle[-1]
        self._idle.pop()
        return worker

    def _begin(self, worker: _Worker, job: _Job) -> None:
        if not job.has_begun:
            job.has_begun = True
            self.outcome.waits.append(self._now - job.arrived_at)
        worker.job = job
        self._busy += 1
        self._at(self._now + self.video.chunk_s, self._end_chunk, worker, job)

    def _end_chunk(self, worker: _Worker, job: _Job) -> None:
        if worker.gone:
            return
        self._busy -= 1
        self._chunks -= 1
        self.outcome.busy_s += self.video.chunk_s
        job.chunks -= 1
        if job.chunks:
            self._queue.append(job)
        else:
            self._jobs -= 1
            self.outcome.times.append(self._now - job.arrived_at)
        self._become_idle(worker)

    def _become_idle(self, worker: _Worker) -> None:
        if worker.gone:
            return
        worker.job = None
        worker.idle_since = self._now
        self._idle.append(worker)
        self._assign()

    def _poll(self) -> None:
        """What the autoscaler does: it starts workers, which leave by themselves."""
        self._idle = [each for each in self._idle if not each.gone and not self._has_left(each)]
        wanted = self.fleet.wanted(self._jobs, self._chunks * self.video.chunk_s)
        for _ in range(wanted - len(self._workers)):
            self._start(cold_start_s=self.fleet.cold_start_s)
        gpus = len(self._workers)
        self.outcome.peak_gpus = max(self.outcome.peak_gpus, gpus)
        self.outcome.samples.append(Sample(self._now, gpus, self._busy, self._jobs))
        self._at(self._now + self.fleet.poll_s, self._poll)

    def _start(self, *, cold_start_s: float) -> None:
        worker = _Worker(started_at=self._now)
        self._workers.add(worker)
        self._at(self._now + cold_start_s, self._become_idle, worker)
        if self.fleet.losses_per_hour:
            life_s = self._random.expovariate(self.fleet.losses_per_hour / 3600)
            self._at(self._now + life_s, self._lose, worker)

    def _lose(self, worker: _Worker) -> None:
        """A node is taken away: its chunk is begun again, before those that wait."""
        if worker.gone:
            return
        self._leave(worker, self._now)
        if worker.job:
            self._busy -= 1
            self.outcome.lost_chunks += 1
            self._queue.appendleft(worker.job)
            self._assign()

    def _has_left(self, worker: _Worker) -> bool:
        """Whether a worker has been idle for long enough; it left at the time when it had."""
        left_at = worker.idle_since + self.fleet.idle_exit_s
        if left_at > self._now or len(self._workers) <= self.fleet.min_gpus:
            return False
        self._leave(worker, left_at)
        return True

    def _leave(self, worker: _Worker, at: float) -> None:
        worker.gone = True
        self._workers.discard(worker)
        self.outcome.paid_s += at - worker.started_at
