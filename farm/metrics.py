"""Every number that the farm tells about itself, in one list, and how the steps add to them.

Numbers of `worker` are added up where work is done, in each worker since its start; those of `farm` are looked up
in the registry and the broker whenever somebody asks. No label has a job's id.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from farm.errors import FarmError

STEP_KINDS = ("download", "embed", "generate", "mux", "notify")
QUEUES = ("cpu", "gpu")
PRIORITIES = ("high", "normal", "low")
KINDS: tuple[type[FarmError], ...] = (FarmError, *FarmError.__subclasses__())
CODES = tuple(sorted(kind.code for kind in KINDS))
SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)

STEPS = {4: "1-4", 8: "5-8", 16: "9-16", 25: "17-25", 40: "26-40", 1000: "41-1000"}
"""Classes of denoise steps by their highest number: a caller may ask for any, and each would be a series of its own."""


@dataclass(frozen=True)
class Metric:
    """One number, or one for each value of its labels; those whose values are known here are told from the start."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    told_by: Literal["worker", "farm"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def series(self) -> Iterator[tuple[str, ...]]:
        """The values of its labels, in all their ways; none while the values of one are not known."""
        return product(*self.labels.values())


STATION = {"station": STEP_KINDS}
QUEUE = {"queue": QUEUES, "priority": PRIORITIES}
CHUNK = {"size": (), "steps": ()}
DUPLICATE = {"station": STEP_KINDS, "found": ("made", "held", "overtaken")}

METRICS = (
    Metric("farm_step_seconds", "histogram", "worker", "seconds from a step's lease to its product", STATION),
    Metric("farm_chunk_seconds", "histogram", "worker", "seconds of a worker for one chunk, loading apart", CHUNK),
    Metric("farm_frames_total", "counter", "worker", "frames of video made current", {"size": ()}),
    Metric("farm_gpu_busy_seconds_total", "counter", "worker", "seconds that the model was at work"),
    Metric("farm_cold_load_seconds", "histogram", "worker", "seconds to load the model into a new process"),
    Metric("farm_retries_total", "counter", "worker", "failed attempts that are tried again", STATION),
    Metric("farm_duplicates_total", "counter", "worker", "messages and products that were not wanted", DUPLICATE),
    Metric("farm_lease_losses_total", "counter", "worker", "leases that ran out and were taken over", STATION),
    Metric("farm_parked_total", "counter", "worker", "steps given up after every attempt was lost", STATION),
    Metric("farm_broker_up", "gauge", "farm", "1 if the broker answers, else 0"),
    Metric("farm_broker_aof_ok", "gauge", "farm", "1 if the append-only file is on and was written last time, else 0"),
    Metric("farm_broker_memory_bytes", "gauge", "farm", "memory that the broker's data takes"),
    Metric("farm_broker_evicted_keys_total", "counter", "farm", "keys that the broker dropped for want of memory"),
    Metric("farm_queue_length", "gauge", "farm", "messages that wait, the reaper's rounds among them", QUEUE),
    Metric("farm_queue_oldest_seconds", "gauge", "farm", "seconds that the first message has waited", QUEUE),
    Metric("farm_unacked_messages", "gauge", "farm", "messages in the hands of workers"),
    Metric("farm_workers", "gauge", "farm", "workers that are there", {"queue": QUEUES}),
    Metric("farm_live_jobs", "gauge", "farm", "jobs that have not ended"),
    Metric("farm_idle_jobs", "gauge", "farm", "live jobs that nobody works on and no message is on its way for"),
    Metric("farm_running_steps", "gauge", "farm", "steps that a worker holds the lease of", STATION),
    Metric("farm_runnable_jobs", "gauge", "farm", "jobs with chunks to make: no more GPUs than these can be used"),
    Metric("farm_unheard_jobs", "gauge", "farm", "those of them whose length nobody knows yet"),
    Metric("farm_ahead_seconds", "gauge", "farm", "seconds of a GPU for all chunks that are not made, as forecast"),
    Metric("farm_predicted_wait_seconds", "gauge", "farm", "seconds until they are made, on the GPUs that can be used"),
    Metric("farm_jobs_total", "counter", "farm", "jobs that ended", {"outcome": (), "code": ()}),
)
"""All of them. A histogram's buckets end at SECONDS."""

Listener = Callable[[str, float, Mapping[str, str]], None]
"""Takes a metric's name, what to add to a counter or to enter into a histogram, and its labels."""

_listeners: list[Listener] = []


def add(name: str, value: float = 1, /, **labels: str) -> None:
    """Adds to a counter, or enters one value into a histogram; nothing if nobody listens in this process."""
    for listen in _listeners:
        listen(name, value, labels)


def listen(listener: Listener) -> None:
    """Has a listener told of every number in this process, and in those that it forks from now on."""
    _listeners.append(listener)


def steps_class(steps: int) -> str:
    """The class of a number of denoise steps, for example `26-40`."""
    return list(STEPS.values())[bisect_left(list(STEPS), steps)]
