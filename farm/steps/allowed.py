"""Checks a request against the operator's settings, at submission and again on the worker."""

from __future__ import annotations

from farm.errors import DownloadFailed, InvalidInput, all_mistakes
from farm.job import JobRequest
from farm.job.checks import MAX_URL
from farm.job.dialogue import turns
from farm.settings import Settings
from farm.steps.output import open_destination


def check_allowed(request: JobRequest, settings: Settings) -> None:
    """Raises InvalidInput for anything that this farm does not do."""
    with all_mistakes() as check:
        check(_check_webhook, request, settings)
        check(_check_max_cost, request, settings)
        check(open_destination, request.output_config, settings)
        check(_check_speech, request, settings)
        check(check_request_bytes, request, settings)


def _check_webhook(request: JobRequest, settings: Settings) -> None:
    if request.webhook and not settings.webhook_secret:
        raise InvalidInput(
            "webhook: webhooks are disabled on this farm (FARM_WEBHOOK_SECRET is not set); "
            "allowed: null"
        )


def _check_max_cost(request: JobRequest, settings: Settings) -> None:
    if request.max_cost is not None and settings.gpu_price_per_h is None:
        raise InvalidInput(
            f"max_cost: got {request.max_cost:g}, but this farm has no price of a GPU "
            "(FARM_GPU_PRICE_PER_H is not set); allowed: a request without it"
        )


def _check_speech(request: JobRequest, settings: Settings) -> None:
    if request.tts_audio is None:
        return
    text = request.tts_audio.text
    if len(text) > settings.max_tts_characters:
        raise InvalidInput(
            f"tts_audio.text: got {len(text):,} characters; "
            f"allowed: {settings.max_tts_characters:,} (FARM_MAX_TTS_CHARACTERS)"
        )
    count = len(turns(text)) if request.speakers == 2 else 1
    if count > settings.max_tts_turns:
        raise InvalidInput(
            f"tts_audio.text: got {count:,} turns; "
            f"allowed: {settings.max_tts_turns:,} (FARM_MAX_TTS_TURNS)"
        )


def check_request_bytes(request: JobRequest, settings: Settings) -> None:
    """Checks what is stored of a request: inline data, longer than any URL, is uploaded."""
    stored = request.with_sources(lambda source, _: source if len(source) <= MAX_URL else "")
    size = len(stored.model_dump_json().encode())
    if size > settings.max_request_bytes:
        raise InvalidInput(
            f"request: got {size:,} bytes; "
            f"allowed: {settings.max_request_bytes:,} (FARM_MAX_REQUEST_BYTES)"
        )


def check_bytes(size: int, *, field: str, max_bytes: int) -> None:
    """Raises DownloadFailed for a file that is larger than the operator allows."""
    if size > max_bytes:
        message = f"{field}: it has {size:,} bytes; allowed: {max_bytes:,}"
        raise DownloadFailed(message, retryable=False)
