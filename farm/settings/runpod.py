"""Chunks and jobs on a serverless endpoint."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from farm.errors import InvalidInput
from farm.settings.group import SettingsGroup


class Runpod(SettingsGroup):
    title: ClassVar = "Runpod"

    bridge_slots: int = Field(
        10,
        ge=1,
        le=500,
        description="chunks in flight per bridge; as many as its endpoint has workers",
    )
    bridge_overflow_wait_s: float | None = Field(
        None,
        ge=0,
        description=(
            "predicted wait for the farm's own GPUs in seconds above which chunks overflow to the "
            "endpoint; unset = only while the farm has no GPU of its own"
        ),
    )
    bridge_gpu_s_per_hour: float | None = Field(
        None, ge=0, description="GPU seconds of the endpoint per hour; unset = any number"
    )
    bridge_cost_per_hour: float | None = Field(
        None,
        ge=0,
        description=(
            "money per hour at FARM_BRIDGE_PRICE_PER_S, in its currency; unset = any amount"
        ),
    )
    bridge_price_per_s: float | None = Field(
        None, gt=0, description="price of one second of a worker of the endpoint"
    )
    bridge_queue_s: float = Field(
        900,
        ge=10,
        description="seconds for which a chunk may wait for a worker of the endpoint",
    )
    runpod_api_key: str | None = Field(
        None, repr=False, description="key of the Runpod account, or of a gateway; never logged"
    )
    runpod_endpoint_id: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None, description="serverless endpoint on which a bridge generates chunks"
    )
    runpod_url: str = Field(
        "https://api.runpod.ai/v2",
        pattern="^https?://",
        description="URL of Runpod's queue API, or of a gateway",
    )
    runpod_concurrency: int = Field(
        2,
        ge=1,
        le=8,
        description=(
            "jobs that a serverless worker takes at once; one has the GPU, the others fetch their "
            "inputs and wait, which counts as their time"
        ),
    )
    runpod_streaming: bool = Field(
        False,
        description=(
            "true: a serverless worker streams each finished chunk; all workers of an endpoint "
            "do, or none does"
        ),
    )
    runpod_execution_s: float | None = Field(
        None,
        gt=0,
        description=(
            "the endpoint's execution timeout in seconds, which Runpod does not tell its workers; "
            "unset = none is known"
        ),
    )
    runpod_rest_url: str = Field(
        "https://api.runpod.io/v2",
        pattern="^https?://",
        description="URL of Runpod's REST API, with which `farm endpoint` works",
    )

    @property
    def runpod_key(self) -> str:
        """The key of the Runpod account, or of a gateway; InvalidInput if there is none."""
        if self.runpod_api_key:
            return self.runpod_api_key
        allowed = type(self).model_fields["runpod_api_key"].description
        raise InvalidInput(f"RUNPOD_API_KEY: it is not set; allowed: {allowed}")
