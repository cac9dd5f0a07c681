"""Jobs through the broker, to the workers that consume its queues."""

from __future__ import annotations

from amqp.exceptions import AMQPError, PreconditionFailed
from celery import Celery
from kombu.exceptions import OperationalError

from farm.engine.context import Context
from farm.errors import FarmUnreachable
from farm.queue.app import make_app
from farm.queue.brokers import broker_class
from farm.queue.brokers.rabbitmq import declared_otherwise
from farm.queue.dispatch import dispatch
from farm.route import Step


class CeleryTransport:
    def __init__(self, ctx: Context) -> None:
        self.context = ctx
        self.app: Celery = make_app(ctx.settings)
        self.app.conf.update(broker_class(ctx.settings).sender_options())

    def dispatch(self, job_id: str, step: Step) -> None:
        try:
            dispatch(self.app, self.context, job_id, step)
        except PreconditionFailed as error:
            message = declared_otherwise(error).message
            raise FarmUnreachable(message, retryable=False) from error
        except (OperationalError, AMQPError) as error:
            raise FarmUnreachable(f"the broker did not accept job {job_id}: {error}") from error
