"""The Celery application: which task does which station on which queue, and how Celery is set up for long GPU work."""

from __future__ import annotations

import logging
import sys
from typing import Any, NamedTuple, TextIO, cast

from celery import Celery
from celery.signals import celeryd_init, setup_logging
from celery.utils.log import LoggingProxy
from kombu import Exchange, Queue

from farm import logs
from farm.settings import Settings


class Desk(NamedTuple):
    """Where the tickets of one station go."""

    task: str
    queue: str
    module: str


DESKS = {
    "download": Desk("farm.download", "cpu", "tasks.steps"),
    "embed": Desk("farm.embed", "cpu", "tasks.steps"),
    "generate": Desk("farm.generate", "gpu", "tasks.steps"),
    "mux": Desk("farm.mux", "cpu", "tasks.steps"),
    "notify": Desk("farm.notify", "cpu", "tasks.steps"),
    "reap": Desk("farm.reap", "cpu", "tasks.reap"),
}

ASIDE = {"tasks.metrics", "tasks.heartbeat"}
"""What workers do besides."""

PRIORITIES = {"high": 0, "normal": 3, "low": 6}
"""Message priority on Redis, where 0 goes first."""

SKEW_S = 3600
"""How far the clocks of a farm's machines may part."""


def make_app(settings: Settings) -> Celery:
    """The application of a client, a worker or beat; all of them share these settings."""
    app = Celery(
        "infinitetalk-farm",
        broker=settings.broker_address,
        include=sorted({desk.module for desk in DESKS.values()} | ASIDE),
    )
    app.conf.update(reliability(settings))
    return app


def reliability(settings: Settings) -> dict[str, Any]:
    """Each Celery setting that differs from the default, with its reason."""
    return {
        # The registry holds every state and result. A result backend would be a second truth, and a finished chunk
        # whose result could not be written would count as failed.
        "result_backend": None,
        "task_ignore_result": True,
        # JSON only: unpickling is running whatever a message says.
        "task_serializer": "json",
        "accept_content": ["json"],
        # A message is given up only when its task is done, so a worker that dies loses nothing; running twice is made
        # harmless by the fences in farm.registry.
        "task_acks_late": True,
        # A message whose child died is not put back: the lease of the dead attempt still stands, so the copy would find
        # nothing to do. The reaper sends a new one when the lease is over, and counts the attempts.
        "task_reject_on_worker_lost": False,
        # Nothing waits behind a chunk in a worker that could run in another.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # Losing the broker for a moment must not kill a warm GPU child; the fence settles who was first.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A replacement child may load the model for minutes; after the default 4 s it would be killed for ever.
        "worker_proc_alive_timeout": 900,
        # Raises in the child, so that the job ends as E_TIMEOUT; the hard limit is for what cannot be interrupted.
        "task_soft_time_limit": settings.step_timeout_s,
        "task_time_limit": settings.step_timeout_s + 60,
        # Workers and the broker may start in any order, and the broker may be away for as long as it takes.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Three tries (the default) are over before a broker has restarted, and a chunk would be made again.
        "task_publish_retry_policy": {"max_retries": 20, "interval_start": 0.5, "interval_step": 1, "interval_max": 5},
        # Every task has its queue by name; a misspelt one fails here and not in an unread queue.
        "task_queues": [
            Queue(name, Exchange(name), routing_key=name) for name in sorted({desk.queue for desk in DESKS.values()})
        ],
        "task_routes": {desk.task: {"queue": desk.queue} for desk in DESKS.values()},
        "task_default_queue": "cpu",
        "task_create_missing_queues": False,
        "task_default_priority": PRIORITIES["normal"],
        # Flower and the exporters live on events, and waiting times need the moment of sending.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "broker_transport_options": {
            # Longer than a task may take, or it is handed out while it runs.
            "visibility_timeout": 2 * settings.step_timeout_s,
            # Sweep for messages of dead workers every 10 s; by default it is every 100 s.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            # Strictly the most urgent first.
            "priority_steps": sorted(PRIORITIES.values()),
            "queue_order_strategy": "priority",
            # Without a timeout a publish to a dead peer blocks for ever; the check finds connections that NAT dropped.
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # Rounds of the reaper that came too late are not worth making up for. What is late says the worker's clock.
        "beat_schedule": {
            "reap": {"task": DESKS["reap"].task, "schedule": settings.reap_every_s, "options": {"expires": SKEW_S}}
        },
    }


@celeryd_init.connect  # a worker warns of this and that before it sets logging up
@setup_logging.connect
def _log_json_lines(**_: Any) -> None:
    """What libraries print becomes lines too."""
    logs.configure()
    printed = LoggingProxy(logging.getLogger("printed"), logging.INFO)
    sys.stdout = sys.stderr = cast(TextIO, printed)
