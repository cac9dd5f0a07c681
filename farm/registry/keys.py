"""The layout of keys in the registry.

identity                            the id of the farm, which its store has too
account:{caller}                    a caller's record
batch:{batch_id}                    a batch of jobs under one id
api_key:{sha256}                    a caller's key of the gateway, by its digest
link_key                            what the gateways sign links with
idempotency:{caller}:{key}          the job that a caller submitted with an idempotency key
request:{job_id}                    the request of a job
job:{job_id}                        its status
events:{job_id}                     the stream of its events
time_limits:{job_id}                how long it may wait and run
parts:{job_id}                      how many parts of its video a stream was given
current_step:{job_id}               the step whose lease was acquired last
step:{job_id}:{step_id}             the record of a step
lost_search                         when all queues were searched for lost messages last
pace                                how long the farm's last chunk took, and by how many cards
pace:{model}                        the same of a model's last chunk
webhook_calls                       how often webhooks have called each host

The others are those of indices. Names of callers have no colon.
"""

from __future__ import annotations

IDENTITY = "identity"
PACE = "pace"
CALLS = "webhook_calls"
SEARCHED = "lost_search"

JOBS = "jobs"
"""Index of all jobs, by the time of their submission."""

LIVE = "live"
"""Index of jobs that have not been closed, by the time until which a step of theirs is covered."""

REMAINING = "remaining_gpu_s"
"""Index of jobs that have not ended, by the estimated GPU seconds of the chunks still to make."""

ENDED = "ended"
"""Index that counts jobs by how they ended."""

DEADLINES = "deadlines"
"""Index of jobs with time limits, by the time of the next look at whether they are over."""

BATCHES = "batches"
"""Index of batches, by the time of their submission."""

API_KEYS = "api_keys"
"""Index of the digests of all keys, revoked ones too, by the time of their last use; 0 before the
first.
"""

LINK_KEY = "link_key"

UNDELIVERED = "undelivered"
"""Index of dispatched messages that have led to no lease, by the time of their dispatch."""

REMOTE = "remote"
"""Index of the jobs of serverless endpoints that run attempts, by their deadline."""

WORKERS = "workers"
"""Index of workers, by the time of their last heartbeat."""

COLD = "cold_workers"
"""Index of gpu workers that could not load their model, by the time of their last heartbeat."""

MODELS = "models"
"""Index of models, each behind its rank with the worker that serves it, by the time of its last
heartbeat.
"""

VOICES = "voices"
"""Index of lists of Kokoro's voices, each as a worker has them that speaks, by the time of its last
heartbeat.
"""


def jobs_of(caller: str) -> str:
    """Index of a caller's jobs, by the time of their submission."""
    return f"{JOBS}:{caller}"


def remaining_of(caller: str) -> str:
    """Index of a caller's jobs that have not ended, by their remaining GPU seconds, at most."""
    return f"{REMAINING}:{caller}"


def results_of(caller: str) -> str:
    """Index of a caller's finished jobs, by the bytes of their results."""
    return f"results:{caller}"


def gpu_s_of(caller: str) -> str:
    """Index of days in UTC, for example 2026-11-29, by the GPU seconds that a caller used."""
    return f"gpu_s:{caller}"


def ended_of(caller: str) -> str:
    """Index that counts a caller's jobs by how they ended."""
    return f"{ENDED}:{caller}"


def uploads_of(caller: str) -> str:
    """Index of a caller's uploads, each with its size, by the time of their last use."""
    return f"uploads:{caller}"


def waiting_at(host: str) -> str:
    """Index of jobs that wait for their turn to download from a host, by when they came."""
    return f"waiting:{host}"


def pace_key(model: str) -> str:
    return f"{PACE}:{model}"


def api_key_key(digest: str) -> str:
    return f"api_key:{digest}"


def batch_key(batch_id: str) -> str:
    return f"batch:{batch_id}"


def time_limits_key(job_id: str) -> str:
    return f"time_limits:{job_id}"


def parts_key(job_id: str) -> str:
    return f"parts:{job_id}"


def account_key(caller: str) -> str:
    return f"account:{caller}"


def idempotency_record_key(caller: str, idempotency_key: str) -> str:
    return f"idempotency:{caller}:{idempotency_key}"


def request_key(job_id: str) -> str:
    return f"request:{job_id}"


def job_key(job_id: str) -> str:
    return f"job:{job_id}"


def events_key(job_id: str) -> str:
    return f"events:{job_id}"


def current_step_key(job_id: str) -> str:
    return f"current_step:{job_id}"


def step_key(job_id: str, step_id: str) -> str:
    return f"step:{job_id}:{step_id}"


def spending_key(endpoint: str) -> str:
    return f"spending:{endpoint}"
