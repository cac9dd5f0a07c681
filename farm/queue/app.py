"""The Celery application: the tasks, their queues, and Celery set up for long GPU work."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

from celery import Celery
from celery.signals import celeryd_init, setup_logging
from celery.utils.log import LoggingProxy

from farm import logs
from farm.queue.brokers import broker_class
from farm.route import STEP_SPECS
from farm.settings import Settings

MODULES = (
    "farm.tasks.steps",
    "farm.tasks.warm_up",
    "farm.tasks.health",
    "farm.tasks.preconditions",
    "farm.tasks.reap",
    "farm.tasks.metrics",
    "farm.tasks.heartbeat",
    "farm.tasks.downloads",
)
"""What every worker imports."""

TASK_ROUTES: dict[str, str] = {f"farm.{kind}": spec.queue for kind, spec in STEP_SPECS.items()}
"""The queue of each task, by the task's name."""


def make_app(settings: Settings) -> Celery:
    """The application of a client or a worker; all of them share these settings."""
    app = Celery("infinitetalk-farm", broker=settings.broker_address, include=MODULES)
    app.conf.update(reliability(settings))
    return app


def reliability(settings: Settings) -> dict[str, Any]:
    """Each Celery setting that differs from its default, with the reason."""
    broker = broker_class(settings)
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
        # Losing the broker for a moment must not kill a warm GPU child; the fencing token decides
        # which attempt commits.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Messages that no step can be read from go to the dead letters.
        "worker_consumer": "farm.tasks.consumer:StepConsumer",
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
        "task_routes": {task: {"queue": queue} for task, queue in TASK_ROUTES.items()},
        "task_default_queue": "cpu",
        "task_create_missing_queues": False,
        "task_default_priority": broker.priorities["normal"],
        # Flower needs events; waiting times need the time of sending.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        **broker.celery_options(settings),
    }


@celeryd_init.connect  # a worker logs warnings before it sets logging up
@setup_logging.connect
def _log_json_lines(**_: Any) -> None:
    """Configures JSON Lines, also for whatever libraries print."""
    logs.configure()
    printed = LoggingProxy(logging.getLogger("stdout"), logging.INFO)
    sys.stdout = sys.stderr = cast(TextIO, printed)
