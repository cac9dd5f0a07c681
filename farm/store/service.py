"""An S3 service: how it is reached, what is asked again, and what its refusals mean."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import certifi
from minio import Minio
from minio.error import MinioException, S3Error, ServerError
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, SSLError

from farm.errors import InvalidInput
from farm.logs import log
from farm.retry import retry_until
from farm.settings import Settings
from farm.store import without_credentials

CONNECT_S, READ_S = 5.0, 30.0
"""Limits for a connection, and between two bytes of an answer."""

THREADS = 10
"""Connections that are kept for threads that ask at the same time."""

FIRST_RETRY_DELAY_S = 0.25
MAX_RETRY_DELAY_S = 5.0
LONGEST_REASON = 300

RETRYABLE_CODES = {"BadDigest", "IncompleteBody", "OperationAborted", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
"""Refusals below 500 that say: the way here was bad, or somebody else is at it, so ask again."""

Answer = TypeVar("Answer")


class ServiceError(Exception):
    """Why a service did not do what it was asked to, in words; `passing` says whether asking again may help."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(reason[:LONGEST_REASON])
        self.retryable = retryable


class Service:
    """`client` asks the service; `signer` makes URLs for those who reach it by its public name."""

    def __init__(self, settings: Settings) -> None:
        """InvalidInput names the setting that is missing or wrong; nothing is contacted yet."""
        self.client = _client(settings, "s3_endpoint")
        self.signer = _client(settings, "s3_public_base") if settings.s3_public_base else self.client
        self._retry_s = settings.store_retry_s

    def call(self, request: Callable[[], Answer]) -> Answer:
        """The result of `request`, repeated for a while if the service is down.

        Raises ServiceError, whose cause is the client's error.
        """

        def attempt() -> Answer:
            try:
                return request()
            except (MinioException, HTTPError, ParseError) as error:
                raise as_service_error(error) from error

        return retry_until(
            attempt,
            timeout_s=self._retry_s,
            is_retryable=lambda error: isinstance(error, ServiceError) and error.retryable,
            delay_s=FIRST_RETRY_DELAY_S,
            max_delay_s=MAX_RETRY_DELAY_S,
            on_retry=lambda error, delay_s: log("store_retry", reason=str(error), delay_s=delay_s),
        )


def as_service_error(error: Exception) -> ServiceError:
    """An error of the client as a refusal."""
    if isinstance(error, S3Error):
        status, reason = error.response.status, f"{error.code}: {error.message}"
        return ServiceError(reason, retryable=_is_down(status) or error.code in RETRYABLE_CODES)
    if isinstance(error, ServerError):
        return ServiceError(str(error), retryable=_is_down(error.status_code))
    cause = getattr(error, "reason", None) or error  # what the last of several tries ended with
    return ServiceError(f"{type(cause).__name__}: {cause}", retryable=not isinstance(cause, SSLError))


def _is_down(status: int) -> bool:
    return status == 429 or (status >= 500 and status != 501)  # 501: it will never know that request


def _client(settings: Settings, field: str) -> Minio:
    """A client of the service at the address in a field of the settings."""
    secure, host = _address(field, getattr(settings, field))
    client = Minio(
        host,
        access_key=_given(settings, "s3_access_key"),
        secret_key=_given(settings, "s3_secret_key"),
        region=settings.s3_region,
        secure=secure,
        http_client=_pool(settings.s3_ca if secure else None, secure=secure),
    )
    if settings.s3_path_style is True:
        client.disable_virtual_style_endpoint()
    if settings.s3_path_style is False:
        client.enable_virtual_style_endpoint()
    return client


def _address(field: str, url: str) -> tuple[bool, str]:
    """Whether an address wants TLS, and its host with its port."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.path.strip("/"):
        shown = without_credentials(url)
        raise InvalidInput(f"FARM_{field.upper()}: got {shown!r}; allowed: http:// or https://, a host and a port")
    return parts.scheme == "https", parts.netloc


def _given(settings: Settings, field: str) -> str:
    value: str | None = getattr(settings, field)
    if not value:
        described = Settings.model_fields[field].description
        raise InvalidInput(f"FARM_{field.upper()}: it is missing; an s3:// store needs it; allowed: {described}")
    return value


def _pool(authority: Path | None, *, secure: bool) -> PoolManager:
    """Connections whose single requests are repeated at once, so that a hiccup costs a part and not the whole."""
    retry = Retry(
        total=3,
        read=1,  # each may be READ_S of silence
        backoff_factor=0.2,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,  # the answer says why
        respect_retry_after_header=False,  # it may be an hour
    )
    timeout = Timeout(connect=CONNECT_S, read=READ_S)
    if not secure:
        return PoolManager(maxsize=THREADS, retries=retry, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=authority or certifi.where())
    except OSError as error:
        raise InvalidInput(f"FARM_S3_CA: got {str(authority)!r}; it holds no certificates ({error})") from error
    return PoolManager(maxsize=THREADS, retries=retry, timeout=timeout, ssl_context=context)
