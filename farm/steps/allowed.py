"""Checks a request against the operator's settings, at submission and again on the worker."""

from __future__ import annotations

from farm.errors import DownloadFailed, InvalidInput
from farm.job import JobRequest
from farm.settings import Settings
from farm.steps.output import open_destination


def check_allowed(request: JobRequest, settings: Settings) -> None:
    """Raises InvalidInput for anything that this farm does not do."""
    if request.webhook and not settings.webhook_secret:
        raise InvalidInput(
            "webhook: webhooks are disabled on this farm (FARM_WEBHOOK_SECRET is not set); "
            "allowed: null"
        )
    open_destination(request.output_config, settings)


def check_bytes(size: int, *, field: str, max_bytes: int) -> None:
    """Raises DownloadFailed for a file that is larger than the operator allows."""
    if size > max_bytes:
        message = f"{field}: it has {size:,} bytes; allowed: {max_bytes:,}"
        raise DownloadFailed(message, retryable=False)
