"""What a worker does with a message that no step can be read from: it goes to the dead letters,
and if it is of another version of the farm, its job ends.

Celery would end the worker's process over some of them, again and again as they are delivered
again, and lose one of its children for good over others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from celery.worker.consumer import Consumer
from kombu import Message
from redis.exceptions import RedisError

from farm.errors import FarmUnreachable, VersionSkew
from farm.logs import log
from farm.queue.dead_letters import store_dead_letter
from farm.queue.dispatch import FORMAT_HEADER
from farm.registry.formats import FORMAT, unknown_format
from farm.route import STEP_SPECS, Step
from farm.tasks.heartbeat import worker_registry

MAX_REASON = 300
"""Characters of an error that are kept."""

PARSE_ERRORS = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""What Celery and its transport raise for a message that they cannot read."""

MAX_JOB_ID = 100
"""Characters; each error of the job logs it."""

WHEN = ("eta", "expires")
"""Headers that would keep a message back or drop it; no step has them."""


class StepConsumer(Consumer):
    """Celery's consumer, which hands on only messages that can be run."""

    loop: Callable[..., None]

    class Blueprint(Consumer.Blueprint):
        default_steps: ClassVar[list[str]] = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]
        """Without the 28 queues on RabbitMQ in which Celery keeps messages for later: no step is
        sent for later.
        """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop = partial(self._run_loop, self.loop)

    def connection_for_write(self, url: str | None = None, heartbeat: int | None = None) -> Any:
        """The connection for events: RabbitMQ confirms none, so that no alarm holds up the worker.

        What does not fit into the connection's buffer is lost.
        """
        if "confirm_publish" not in self.app.conf.broker_transport_options:
            return super().connection_for_write(url=url, heartbeat=heartbeat)
        options = {"confirm_publish": False, "on_blocked": None}
        return self.ensure_connected(
            self.app.connection_for_write(url, heartbeat=heartbeat, transport_options=options)
        )

    def call_soon_ack(
        self, settle: Callable[..., None], logger: Any, errors: Any, *args: Any
    ) -> Any:
        """Acknowledges or rejects a message in the event loop, and connects anew if that fails.

        kombu would only log it. The message would count as in hand for good, and a worker that has
        as many of them as processes would take no other.
        """
        channel = settle.__self__.channel  # type: ignore[attr-defined]  # of a message
        is_open = self.task_consumer is not None and channel is self.task_consumer.channel
        # What a lost connection delivered is delivered again.
        errors = () if is_open else (Exception,)
        return super().call_soon_ack(settle, logger, errors, *args)

    def _run_loop(self, loop: Callable[..., None], *args: Any) -> None:
        """Runs Celery's event loop; connects anew after bytes that the transport cannot parse."""
        try:
            loop(*args)
        except PARSE_ERRORS as error:
            self._put_aside({"bytes": getattr(error, "doc", None)}, error)
            raise ConnectionResetError("the broker delivered what is no message") from error

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], Any]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Message) -> Any:
            try:
                check_message(message, known_tasks=self.app.tasks)
            except VersionSkew as error:
                with connecting_anew():
                    end_job(message, error)
                return self.on_decode_error(message, error)
            except Exception as error:
                return self.on_decode_error(message, error)
            try:
                return handle(message)
            except PARSE_ERRORS as error:  # else it would be delivered again and again
                return self.on_decode_error(message, error)

        return on_message

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        self._put_aside({"headers": message.headers, "body": message.body}, exc)
        message.ack()

    def _put_aside(self, letter: dict[str, Any], error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:MAX_REASON]
        log("message_unreadable", level=logging.ERROR, reason=reason)
        with connecting_anew():
            store_dead_letter(
                worker_registry(), json.dumps({**letter, "reason": reason}, default=repr)
            )


@contextmanager
def connecting_anew() -> Iterator[None]:
    """Lets the message be delivered again if the registry does not answer.

    Celery connects anew then, and goes on. For other errors its process would end.
    """
    try:
        yield
    except (FarmUnreachable, RedisError) as error:
        raise ConnectionResetError("the registry does not answer") from error


def check_message(message: Message, *, known_tasks: Container[str]) -> None:
    """Raises VersionSkew if a message of a job is in another format.

    An error of any kind if it has no known task, or names no job and step.
    """
    task = message.headers["task"]
    arguments, options, _ = message.payload
    found = message.headers.get(FORMAT_HEADER)
    if task.startswith("farm.") and found != FORMAT:
        raise unknown_format(found, name=f"job {arguments[0]}: its message {task}")
    if task not in known_tasks or not message.headers["id"]:
        raise ValueError(f"there is no task {task!r}")
    kind = task.removeprefix("farm.")
    if kind not in STEP_SPECS:
        return
    job_id, *chunk = arguments
    _ = Step(kind, *chunk).id
    if not isinstance(job_id, str) or len(job_id) > MAX_JOB_ID or options:
        raise ValueError("its arguments are not those of a step")
    if any(message.headers.get(name) is not None for name in WHEN):
        raise ValueError(f"a step has no {' and no '.join(WHEN)}")
    _check_time_limits(*message.headers.get("timelimit") or (None, None))


def _check_time_limits(hard: Any, soft: Any) -> None:
    """Raises TypeError for limits that are no numbers, over which Celery's pool would stumble."""
    if not all(each is None or each > 0 for each in (hard, soft)):
        raise ValueError(f"its time limits are {hard} and {soft}")


def end_job(message: Message, error: VersionSkew) -> None:
    """Ends the job of a message of another version; the reaper closes it."""
    job_id = str(message.payload[0][0])
    stage = message.headers["task"].removeprefix("farm.")
    worker_registry().jobs.fail(job_id, error, at_stage=stage)
