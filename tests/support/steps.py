"""Steps run in the process of a test, as a worker runs them, or done by another worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farm.engine.attempt import Attempt, Hooks
from farm.engine.context import Context
from farm.engine.step_context import StepContext, never_draining
from farm.job import JobRequest
from farm.registry import Lease, Registry
from farm.registry.outputs import StepOutput
from farm.registry.remote import RemoteJob
from farm.registry.steps import NO_UPDATE, EstimateUpdate
from farm.route import Step
from farm.steps import step_function
from tests.support.attempts import FIRST
from tests.support.backends import pass_time
from tests.support.jobs import REQUEST
from tests.support.outputs import committed, output_of

LEASE_S = 60


def run_step(ctx: Context, job_id: str, step: Step, **hooks: Any) -> Step | None:
    """The step that the caller must now dispatch; `hooks` are those of `Hooks`."""
    hooks.setdefault("step_function", step_function)
    return Attempt(ctx, job_id, step, Hooks(**hooks)).run()


def step_context(
    ctx: Context,
    step: Step,
    *,
    scratch: Path,
    job_id: str = "a",
    request: JobRequest = REQUEST,
    attempt_id: str = FIRST,
    draining: Callable[[], bool] = never_draining,
) -> StepContext:
    """The context of an attempt at a step, by default the first one."""
    return StepContext(
        settings=ctx.settings,
        store=ctx.store,
        registry=ctx.registry,
        step=step,
        lease=Lease(job_id, step.id, attempt_id, 1),
        request=request,
        scratch=scratch,
        lease_lost=threading.Event(),
        draining=draining,
    )


def acquire(
    registry: Registry,
    step_id: str = "mux",
    *,
    job_id: str = "a",
    lease_s: float = LEASE_S,
    max_attempts: int = 9,
) -> Lease:
    """The lease of a step that no other attempt holds."""
    lease = registry.steps.acquire(job_id, step_id, lease_s=lease_s, max_attempts=max_attempts)
    assert lease is not None
    return lease


def expire(registry: Registry, step_id: str = "mux", *, max_attempts: int = 3) -> Lease:
    """The lease of a worker that has been silent for too long."""
    lease = acquire(registry, step_id, lease_s=LEASE_S, max_attempts=max_attempts)
    pass_time(registry, 2 * LEASE_S)
    return lease


def claim(registry: Registry, step_id: str = "mux", *, early: bool = False) -> bool:
    """Whether the caller may dispatch a step of the job `a`."""
    return registry.steps.claim_dispatch("a", step_id, early=early)


def adopt(
    registry: Registry, step_id: str = "generate-0000", *, lease_s: float = LEASE_S
) -> Lease | None:
    """The lease of a step of the job `a`, as a bridge gets it."""
    return registry.steps.acquire("a", step_id, lease_s=lease_s, max_attempts=9, adopt=True)


def commit(
    registry: Registry,
    lease: Lease,
    output: StepOutput | None = None,
    *,
    inputs: dict[str, str] | None = None,
    timings: dict[str, int] | None = None,
    digests: dict[str, str] | None = None,
    estimate: EstimateUpdate = NO_UPDATE,
) -> bool:
    """Whether the output became the step's; by default any of its kind."""
    output = output or output_of(lease.step_id)
    envelope = committed(
        output, attempt_id=lease.attempt_id, inputs=inputs, timings=timings, digests=digests
    )
    return registry.commit(lease, envelope, estimate) is not None


def complete(
    registry: Registry,
    step_id: str,
    output: StepOutput | None = None,
    *,
    job_id: str = "a",
    **committed: Any,
) -> Lease:
    """Commits a step as another worker would; its lease."""
    lease = acquire(registry, step_id, job_id=job_id)
    assert commit(registry, lease, output, **committed)
    return lease


def submit_remote(
    registry: Registry,
    step_id: str = "generate-0000",
    *,
    remote_id: str | None = "r1",
    for_s: float = 600,
) -> Lease:
    """The lease of an attempt that runs on the endpoint `e`, for at most `for_s` seconds."""
    lease = acquire(registry, step_id)
    remote = RemoteJob(endpoint="e", id=remote_id, deadline=registry.now() + for_s)
    assert registry.steps.note_remote(lease, remote)
    return lease
