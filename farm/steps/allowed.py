"""What of a request the farm's operator must have allowed; asked before a job is entered, and again by its worker."""

from __future__ import annotations

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.settings import Settings
from farm.steps.output import open_outlet


def check_allowed(request: JobRequest, settings: Settings) -> None:
    """Raises InvalidInput for what this farm does not do."""
    if request.webhook and not settings.webhook_secret:
        raise InvalidInput("webhook: this farm calls none (FARM_WEBHOOK_SECRET is not set); allowed: null")
    open_outlet(request.output_config, settings)
