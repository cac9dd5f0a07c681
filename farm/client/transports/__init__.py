"""Transports: ways to run a job that was submitted, through the broker or in this process."""

from __future__ import annotations

from typing import Protocol

from farm.engine.context import Context
from farm.route import Step


class Transport(Protocol):
    def dispatch(self, job_id: str, step: Step) -> None:
        """Starts a job at a step whose dispatch the caller has claimed."""


def open_transport(ctx: Context, *, inline: bool) -> Transport:
    if inline:
        from farm.client.transports.inline import InlineTransport

        return InlineTransport(ctx)
    from farm.client.transports.celery import CeleryTransport

    return CeleryTransport(ctx)
