"""Jobs in a thread of this process, through the same steps, without a broker."""

from __future__ import annotations

import threading
import time

from farm.engine.advance import claim_due_step
from farm.engine.attempt import Attempt, Hooks
from farm.engine.context import Context
from farm.errors import FarmError
from farm.logs import log
from farm.route import Step
from farm.steps import step_function

POLL_INTERVAL_S = 0.2
"""Pause before a step that is to be retried is looked for again."""


class InlineTransport:
    def __init__(self, ctx: Context) -> None:
        self.context = ctx
        self.hooks = Hooks(step_function)

    def dispatch(self, job_id: str, step: Step) -> None:
        name = f"job-{job_id}"
        threading.Thread(target=self._run, args=(job_id, step), name=name, daemon=True).start()

    def _run(self, job_id: str, step: Step | None) -> None:
        while not self.context.registry.jobs.is_over(job_id):
            try:
                if step is not None:
                    step = Attempt(self.context, job_id, step, self.hooks).run()
                if step is None:
                    step = claim_due_step(self.context, job_id)
            except FarmError as error:
                log("job_failed", job_id=job_id, code=error.code)
                return
            if step is None:
                time.sleep(POLL_INTERVAL_S)
