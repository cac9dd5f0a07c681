"""An S3 service: connections, retries, and the meaning of its errors."""

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

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
"""Limits for a connection, and between two bytes of a response."""

MAX_CONNECTIONS = 64
"""Connections that are kept open for concurrent threads."""

FIRST_RETRY_DELAY_S = 0.25
MAX_RETRY_DELAY_S = 5.0
MAX_REASON = 300
"""Characters of a service's error that are kept."""

RETRYABLE_CODES = {
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
"""Error codes with a status below 500 that are temporary: damaged requests and conflicts."""

HINTS = {"RequestTimeTooSkewed": " Set the clock of this machine, or that of the service."}
"""What to do about errors whose messages leave that open."""

Answer = TypeVar("Answer")


class ServiceError(Exception):
    """A failed request to the service, and whether a retry may help."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(reason[:MAX_REASON])
        self.retryable = retryable


class Service:
    """`client` sends requests; `signer` presigns URLs with the service's public address."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidInput for a missing or wrong setting; nothing is contacted yet."""
        self.client = _client(settings, "s3_endpoint")
        self.signer = self.client
        if settings.s3_public_base:
            self.signer = _client(settings, "s3_public_base")
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
    """An error of the client as a ServiceError."""
    if isinstance(error, S3Error):
        is_retryable = _is_temporary(error.response.status) or error.code in RETRYABLE_CODES
        hint = HINTS.get(error.code or "", "")
        return ServiceError(f"{error.code}: {error.message}{hint}", retryable=is_retryable)
    if isinstance(error, ServerError):
        return ServiceError(str(error), retryable=_is_temporary(error.status_code))
    cause = getattr(error, "reason", None) or error  # of the last of several tries
    return ServiceError(
        f"{type(cause).__name__}: {cause}", retryable=not isinstance(cause, SSLError)
    )


def _is_temporary(status: int) -> bool:
    if status == 501:  # the service does not implement the request
        return False
    return status == 429 or status >= 500


def _client(settings: Settings, field: str) -> Minio:
    """A client of the service at the URL in a field of the settings."""
    secure, host = _address(field, getattr(settings, field))
    client = Minio(
        host,
        access_key=_required(settings, "s3_access_key"),
        secret_key=_required(settings, "s3_secret_key"),
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
    """Whether a URL uses TLS, and its host with the port."""
    parts = urlsplit(url)
    is_http = parts.scheme in ("http", "https") and parts.hostname
    if not is_http or "@" in parts.netloc or parts.path.strip("/"):
        shown = without_credentials(url)
        allowed = "http:// or https://, a host and a port"
        raise InvalidInput(f"FARM_{field.upper()}: got {shown!r}; allowed: {allowed}")
    return parts.scheme == "https", parts.netloc


def _required(settings: Settings, field: str) -> str:
    value: str | None = getattr(settings, field)
    if not value:
        allowed = Settings.model_fields[field].description
        reason = "it is missing; an s3:// store needs it"
        raise InvalidInput(f"FARM_{field.upper()}: {reason}; allowed: {allowed}")
    return value


def _pool(ca_file: Path | None, *, secure: bool) -> PoolManager:
    """Connections that retry single requests, so that an error costs a part, not the object."""
    retry = Retry(
        total=3,
        redirect=False,  # its target would receive the signed request
        read=1,  # each may take READ_TIMEOUT_S
        backoff_factor=0.2,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,  # the response says why
        respect_retry_after_header=False,  # it may be an hour
    )
    timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    if not secure:
        return PoolManager(maxsize=MAX_CONNECTIONS, retries=retry, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=ca_file or certifi.where())
    except OSError as error:
        message = f"FARM_S3_CA: got {str(ca_file)!r}; it has no certificates ({error})"
        raise InvalidInput(message) from error
    return PoolManager(maxsize=MAX_CONNECTIONS, retries=retry, timeout=timeout, ssl_context=context)
