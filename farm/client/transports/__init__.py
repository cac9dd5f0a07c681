"""Transports: ways to run a job that was submitted, through the broker or in this process."""

from __future__ import annotations

from typing import Protocol

from farm.route import Step


class Transport(Protocol):
    def dispatch(self, job_id: str, step: Step) -> None:
        """Starts a job at a step whose dispatch the caller has claimed."""
