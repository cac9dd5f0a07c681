"""Jobs in a thread of this process, through the same steps, without a broker."""

from __future__ import annotations

import threading
import time

from farm.engine.attempt import due, perform
from farm.engine.context import Context
from farm.engine.route import Step
from farm.errors import FarmError
from farm.logs import log

LOOK_AGAIN_S = 0.2
"""Between two looks whether a step that shall be tried again is due."""


class InlineTransport:
    def __init__(self, ctx: Context) -> None:
        self.context = ctx

    def send(self, job_id: str, step: Step) -> None:
        threading.Thread(target=self._run, args=(job_id, step), name=f"job-{job_id}", daemon=True).start()

    def _run(self, job_id: str, step: Step | None) -> None:
        while not self.context.registry.job(job_id).ended:
            try:
                step = (perform(self.context, job_id, step) if step else None) or due(self.context, job_id)
            except FarmError as error:
                log("job_failed", job_id=job_id, code=error.code)
                return
            if step is None:
                time.sleep(LOOK_AGAIN_S)
