"""Jobs through the broker, to whatever workers listen."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from farm.engine.context import Context
from farm.engine.route import Step
from farm.errors import FarmUnreachable
from farm.queue.app import make_app
from farm.queue.dispatch import send


class QueuedTransport:
    def __init__(self, ctx: Context) -> None:
        self.context = ctx
        self.app: Celery = make_app(ctx.settings)

    def send(self, job_id: str, step: Step) -> None:
        try:
            send(self.app, self.context, job_id, step)
        except OperationalError as error:
            raise FarmUnreachable(f"the broker did not take job {job_id}: {error}") from error
