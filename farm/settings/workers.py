"""How workers share the steps, and what is kept of ended jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from farm.settings.group import EMPTY_IS_NONE, SettingsGroup


class Workers(SettingsGroup):
    title: ClassVar = "Workers"

    cpu_concurrency: int = Field(2, ge=1, description="processes per cpu worker")
    download_concurrency: int = Field(
        64,
        ge=0,
        description=(
            "downloads at once per cpu worker, in threads of one process more; 0 = none, if "
            "`farm worker downloads` runs elsewhere"
        ),
    )
    downloads_per_host: int = Field(
        8, ge=1, description="downloads at once per worker from one host; further jobs wait"
    )
    lease_s: float = Field(
        15,
        gt=0,
        description=(
            "seconds without renewal after which a step's lease expires and another worker "
            "may take the step"
        ),
    )
    reap_every_s: float = Field(5, gt=0, description="seconds between two runs of the reaper")
    redispatch_after_s: float = Field(
        3600,
        gt=0,
        description=(
            "seconds between two searches of all queues for lost messages; a message that "
            "waits is never sent again. Also after how long a postponed step is dispatched, at "
            "the latest"
        ),
    )
    max_attempts: int = Field(3, ge=1, description="attempts at one step before its job fails")
    step_timeout_s: float = Field(
        3600, gt=0, description="time limit of one step (for generate, one chunk) in seconds"
    )
    grace_s: float = Field(
        20,
        gt=0,
        description=(
            "seconds after SIGTERM for running steps to stop cleanly; after that they are "
            "interrupted"
        ),
    )
    start_timeout_s: Annotated[float | None, EMPTY_IS_NONE] = Field(
        60,
        gt=0,
        description=(
            "seconds in which the workers of `farm up` and `farm demo` must be ready, and for "
            "which a worker waits at its start for broker, registry and store; empty = for ever"
        ),
    )
    idle_exit_s: float | None = Field(
        None,
        gt=0,
        description=(
            "seconds without a step after which a worker drains and exits with status 0, for "
            "autoscalers that start one for each job; unset = never"
        ),
    )
    health_folder: Path | None = Field(
        None,
        description=(
            "folder of one worker's health files, which `farm health` reads; unset = one for each "
            "worker in {home}/run/health/HOST"
        ),
    )
    remote_control: bool = Field(
        False,
        description=(
            "true: workers obey Celery's remote control, as Flower's buttons need; `farm up "
            "--flower` sets it"
        ),
    )


class Retention(SettingsGroup):
    title: ClassVar = "Retention"

    keep_intermediates_s: float = Field(
        86400,
        ge=0,
        description=(
            "seconds after a job's end from which `farm gc` removes everything but its video"
        ),
    )
    keep_jobs_s: Annotated[float | None, EMPTY_IS_NONE] = Field(
        30 * 86_400,
        ge=0,
        description=(
            "seconds after a job's end from which `farm gc` removes its video, events and record; "
            "empty = never"
        ),
    )
    keep_shared_s: Annotated[float | None, EMPTY_IS_NONE] = Field(
        7 * 86_400,
        ge=0,
        description=(
            "seconds after which `farm gc` removes uploads, and features shared between jobs; one "
            "that is used in the second half of this time is stored anew; empty = never"
        ),
    )
