"""Ways to run a job that has been entered: on the farm's queues, or in this process."""

from __future__ import annotations

from typing import Protocol

from farm.engine.route import Step


class Transport(Protocol):
    def send(self, job_id: str, step: Step) -> None:
        """Sets a job going at a step that the caller has the right to send."""
