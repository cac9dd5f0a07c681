"""Steps run in the process of a test, as a worker runs them."""

from __future__ import annotations

from typing import Any

from farm.engine.attempt import Attempt, Hooks
from farm.engine.context import Context
from farm.route import Step
from farm.steps import step_function


def run_step(ctx: Context, job_id: str, step: Step, **hooks: Any) -> Step | None:
    """The step whose message is then the caller's to send; `hooks` are those of `Hooks`."""
    hooks.setdefault("step_function", step_function)
    return Attempt(ctx, job_id, step, Hooks(**hooks)).run()
