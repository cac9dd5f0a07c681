"""The Celery application: the tasks, their queues, and Celery set up for long GPU work."""

from __future__ import annotations

import logging
import ssl
import sys
from typing import Any, TextIO, cast

from celery import Celery
from celery.signals import celeryd_init, setup_logging
from celery.utils.log import LoggingProxy
from kombu import Exchange, Queue

from farm import logs
from farm.job import PRIORITIES, Priority
from farm.route import QUEUES, STEP_SPECS
from farm.settings import Settings

MODULES = (
    "tasks.steps",
    "tasks.warm_up",
    "tasks.health",
    "tasks.identity",
    "tasks.reap",
    "tasks.metrics",
    "tasks.heartbeat",
    "tasks.downloads",
)
"""What every worker imports."""

TASK_ROUTES: dict[str, str] = {f"farm.{kind}": spec.queue for kind, spec in STEP_SPECS.items()}
"""The queue of each task, by the task's name."""

MESSAGE_PRIORITIES: dict[Priority, int] = {
    priority: 3 * number for number, priority in enumerate(PRIORITIES)
}
"""Priorities of messages on Redis, where 0 is delivered first."""


def make_app(settings: Settings) -> Celery:
    """The application of a client or a worker; all of them share these settings."""
    app = Celery("infinitetalk-farm", broker=settings.broker_address, include=MODULES)
    app.conf.update(reliability(settings))
    return app


def reliability(settings: Settings) -> dict[str, Any]:
    """Each Celery setting that differs from its default, with the reason."""
    return {
        # The registry holds every state and result. A result backend would be a second source of
        # truth, and a finished chunk whose result could not be written would count as failed.
        "result_backend": None,
        "task_ignore_result": True,
        # JSON only: unpickling runs whatever code a message holds.
        "task_serializer": "json",
        "accept_content": ["json"],
        # A message is acknowledged only when its task is done, so a worker that dies loses nothing;
        # fencing tokens (farm.registry) make it harmless to run a step twice.
        "task_acks_late": True,
        # The message of a child that died is not put back: the lease of the dead attempt has not
        # expired, so the copy would find nothing to do. The reaper dispatches the step again once
        # the lease has expired, and the attempts are counted.
        "task_reject_on_worker_lost": False,
        # No message waits behind a chunk while another worker could run it.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # Losing the broker for a moment must not kill a warm GPU child; the fencing token decides
        # which attempt commits.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Messages that no step can be read from go to the dead letters.
        "worker_consumer": "tasks.consumer:StepConsumer",
        # Anyone with write access to the broker could stop workers and change their pools. The farm
        # itself uses heartbeats in the registry.
        "worker_enable_remote_control": settings.remote_control,
        # A replacement child may load the model for minutes; by default it is killed after 4 s,
        # again and again.
        "worker_proc_alive_timeout": 900,
        # The soft limit raises in the child, so that the job ends as E_TIMEOUT; the hard limit is
        # for code that cannot be interrupted.
        "task_soft_time_limit": settings.step_timeout_s,
        "task_time_limit": settings.step_timeout_s + 60,
        # Workers and the broker may start in any order, and the broker may be down for any time.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Three retries (the default) are over before a broker has restarted, and a chunk would be
        # generated again.
        "task_publish_retry_policy": {
            "max_retries": 20,
            "interval_start": 0.5,
            "interval_step": 1,
            "interval_max": 5,
        },
        # Every task has its queue by name; a misspelt one fails here, not in an unread queue.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_routes": {task: {"queue": queue} for task, queue in TASK_ROUTES.items()},
        "task_default_queue": "cpu",
        "task_create_missing_queues": False,
        "task_default_priority": MESSAGE_PRIORITIES["normal"],
        # Flower needs events; waiting times need the time of sending.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "broker_transport_options": _transport_options(settings),
        # By default kombu checks no certificate, and tells any server the broker's password.
        "broker_use_ssl": _tls(settings),
    }


def _tls(settings: Settings) -> dict[str, Any] | None:
    """TLS as the registry has it; None without. Parameters of the URL come before these."""
    if not settings.broker_address.startswith("rediss://"):
        return None
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED}


def _transport_options(settings: Settings) -> dict[str, Any]:
    """The same for kombu's connection to Redis."""
    return {
        # Queues, unacknowledged messages, remote control and events of other farms stay apart.
        "global_keyprefix": settings.key_prefix,
        # Longer than a task may take, or its message is delivered again while it runs. A bridge
        # waits for its endpoint, too.
        "visibility_timeout": (1 + settings.runpod_concurrency) * settings.step_timeout_s
        + settings.bridge_queue_s,
        # Sweep for messages of dead workers every 10 s; by default it is every 100 s.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # Strictly by priority.
        "priority_steps": sorted(MESSAGE_PRIORITIES.values()),
        "queue_order_strategy": "priority",
        # Without a timeout a publish to a dead peer blocks for ever; the health check finds
        # connections that NAT has dropped.
        "socket_timeout": 30,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


@celeryd_init.connect  # a worker logs warnings before it sets logging up
@setup_logging.connect
def _log_json_lines(**_: Any) -> None:
    """Configures JSON Lines, also for whatever libraries print."""
    logs.configure()
    printed = LoggingProxy(logging.getLogger("stdout"), logging.INFO)
    sys.stdout = sys.stderr = cast(TextIO, printed)
