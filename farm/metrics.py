"""The catalogue of the farm's Prometheus metrics, and how the steps add to them.

Metrics of source `worker` are counted in each worker since its start; those of source `exporter`
are read from the registry and the broker at each scrape; those of source `gateway` are counted
by it. No label holds a job's id.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from farm.errors import FarmError
from farm.job import PRIORITIES
from farm.presets import PRESETS
from farm.route import QUEUES, STEP_KINDS

ERRORS: tuple[type[FarmError], ...] = (FarmError, *FarmError.__subclasses__())
CODES = tuple(sorted(error.code for error in ERRORS))
SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)
"""Bucket bounds of histograms: from a short step to the limits of a long chunk."""

ANSWER_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Those of answers: from a status to the longest wait for a job."""

STEPS = {4: "1-4", 8: "5-8", 16: "9-16", 25: "17-25", 40: "26-40", 1000: "41-1000"}
"""Classes of the number of denoise steps by their upper bound: a label value for each number would
be a thousand series.
"""


@dataclass(frozen=True)
class Metric:
    """One metric; series whose label values are known here are exported from the start."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    source: Literal["worker", "exporter", "gateway"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = SECONDS
    """Bounds, in seconds, of a histogram."""

    def series(self) -> Iterator[tuple[str, ...]]:
        """Every combination of label values; none if a label has values unknown here."""
        return product(*self.labels.values())


STEP = {"step": STEP_KINDS}
VIDEO = {"model": tuple(PRESETS), "size": ()}
QUEUE = {"queue": QUEUES, "priority": PRIORITIES}
CHUNK = {**VIDEO, "steps": ()}
DUPLICATE = {"step": STEP_KINDS, "reason": ("committed", "leased", "superseded")}
REMOTE = {"outcome": ("completed", "failed", "cancelled", "timed_out", "forgotten")}

METRICS = (
    Metric(
        "farm_step_seconds",
        "histogram",
        "worker",
        "seconds from a step's lease to its commit",
        STEP,
    ),
    Metric(
        "farm_chunk_seconds",
        "histogram",
        "worker",
        "seconds that a worker spends on one chunk, without loading the model",
        CHUNK,
    ),
    Metric("farm_frames_total", "counter", "worker", "committed frames of video", VIDEO),
    Metric(
        "farm_gpu_busy_seconds_total",
        "counter",
        "worker",
        "seconds of model computation, of each card of a worker",
    ),
    Metric("farm_gpus", "gauge", "worker", "cards of a gpu worker, which make each chunk together"),
    Metric(
        "farm_model_load_seconds",
        "histogram",
        "worker",
        "seconds to load the model into a new process",
    ),
    Metric("farm_retries_total", "counter", "worker", "failed attempts that are retried", STEP),
    Metric(
        "farm_duplicates_total",
        "counter",
        "worker",
        "duplicate deliveries and superseded attempts",
        DUPLICATE,
    ),
    Metric(
        "farm_expired_leases_total",
        "counter",
        "worker",
        "expired leases that another attempt took over",
        STEP,
    ),
    Metric(
        "farm_worker_lost_total",
        "counter",
        "worker",
        "steps that ended as E_WORKER_LOST",
        STEP,
    ),
    Metric(
        "farm_remote_jobs_total",
        "counter",
        "worker",
        "jobs of a serverless endpoint that a bridge has followed to their end",
        REMOTE,
    ),
    Metric(
        "farm_remote_gpu_seconds_total",
        "counter",
        "worker",
        "GPU seconds of chunks on a serverless endpoint",
    ),
    Metric("farm_broker_up", "gauge", "exporter", "1 if the broker answers, else 0"),
    Metric(
        "farm_broker_aof_ok",
        "gauge",
        "exporter",
        "1 if Redis' append-only file is enabled and its last write succeeded, else 0",
    ),
    Metric("farm_broker_memory_bytes", "gauge", "exporter", "memory used by the broker's data"),
    Metric(
        "farm_broker_evicted_keys_total",
        "counter",
        "exporter",
        "keys that Redis, as the broker, evicted for lack of memory",
    ),
    Metric(
        "farm_broker_alarm",
        "gauge",
        "exporter",
        "1 while RabbitMQ takes no messages for lack of it, else 0; absent without FARM_BROKER_API",
        {"resource": ("memory", "disk")},
    ),
    Metric(
        "farm_registry_up",
        "gauge",
        "exporter",
        "1 if the registry answers, else 0; absent if it is the broker, like farm_registry_...",
    ),
    Metric(
        "farm_registry_aof_ok",
        "gauge",
        "exporter",
        "1 if the registry's append-only file is enabled and its last write succeeded, else 0",
    ),
    Metric("farm_registry_memory_bytes", "gauge", "exporter", "memory used by the registry's data"),
    Metric(
        "farm_registry_evicted_keys_total",
        "counter",
        "exporter",
        "keys that the registry evicted for lack of memory",
    ),
    Metric(
        "farm_queue_length",
        "gauge",
        "exporter",
        "queued messages; RabbitMQ: of all priorities",
        QUEUE,
    ),
    Metric(
        "farm_queue_oldest_seconds",
        "gauge",
        "exporter",
        "seconds that the oldest queued message has waited",
        QUEUE,
    ),
    Metric(
        "farm_unacked_messages",
        "gauge",
        "exporter",
        "delivered messages that are not acknowledged yet; RabbitMQ: needs FARM_BROKER_API",
    ),
    Metric(
        "farm_dead_letters",
        "gauge",
        "exporter",
        "messages that no step could be read from, in the list farm:dead-letters",
    ),
    Metric("farm_workers", "gauge", "exporter", "live workers", {"queue": QUEUES}),
    Metric("farm_live_jobs", "gauge", "exporter", "jobs that have not ended"),
    Metric(
        "farm_orphaned_jobs", "gauge", "exporter", "live jobs with neither a lease nor a message"
    ),
    Metric("farm_running_steps", "gauge", "exporter", "steps under a live lease", STEP),
    Metric(
        "farm_runnable_jobs",
        "gauge",
        "exporter",
        "jobs with chunks left to generate: the most GPUs that can be used",
    ),
    Metric("farm_unknown_length_jobs", "gauge", "exporter", "runnable jobs of unknown length"),
    Metric(
        "farm_estimated_gpu_seconds",
        "gauge",
        "exporter",
        "estimated GPU seconds of all remaining chunks",
    ),
    Metric(
        "farm_estimated_wait_seconds",
        "gauge",
        "exporter",
        "estimated seconds until they are done, on the GPUs that can be used",
    ),
    Metric(
        "farm_jobs_total",
        "counter",
        "exporter",
        "jobs that have ended",
        {"outcome": (), "code": ()},
    ),
    Metric(
        "farm_gateway_requests_total",
        "counter",
        "gateway",
        "answered requests",
        {"route": (), "status": ()},
    ),
    Metric(
        "farm_gateway_answer_seconds",
        "histogram",
        "gateway",
        "seconds from a request to the beginning of its answer; those of runsync and stream wait "
        "for a job",
        {"route": ()},
        ANSWER_SECONDS,
    ),
    Metric("farm_gateway_waits", "gauge", "gateway", "requests that wait for a job"),
)
"""All metrics."""

Listener = Callable[[str, float, Mapping[str, str]], None]
"""Receives a metric's name, the value to add or observe, and the labels."""

_listeners: list[Listener] = []


def add(name: str, value: float = 1, /, **labels: str) -> None:
    """Adds to a counter, sets a gauge or observes a value in a histogram, if this process has a
    listener.
    """
    for listener in _listeners:
        listener(name, value, labels)


def listen(listener: Listener) -> None:
    """Registers a listener in this process and in those that it forks from now on."""
    _listeners.append(listener)


def steps_class(steps: int) -> str:
    """The class of a number of denoise steps, for example `26-40`."""
    upper_bounds = list(STEPS)
    return STEPS[upper_bounds[bisect_left(upper_bounds, steps)]]
