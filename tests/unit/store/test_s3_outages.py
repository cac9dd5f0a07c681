"""S3 stores when the service refuses requests, drops connections or is down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from farm.errors import FarmUnreachable, InvalidInput, UploadFailed
from farm.settings import Settings
from farm.store import Store
from farm.store.s3 import PART_BYTES
from tests.support.certificate import server_context
from tests.support.faulty_proxy import FaultyProxy
from tests.support.swift import Swift, opened
from tests.support.web_server import web_server


@pytest.fixture
def proxy(swift: Swift) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(swift.ports["proxy"])
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(swift: Swift, proxy: FaultyProxy) -> Store:
    """A store whose connections to the service can be cut."""
    return opened(swift.settings(s3_endpoint=f"http://127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize("call", ["put", "get", "keys"])
def test_a_wrong_secret_is_reported_at_once(swift, call):
    store = opened(swift.settings(s3_secret_key="wrong", store_retry_s=60))
    arguments = {"put": ("object", b"object"), "get": ("object",), "keys": ("",)}[call]
    began = time.monotonic()
    with pytest.raises((UploadFailed, FarmUnreachable), match="SignatureDoesNotMatch") as caught:
        getattr(store, call)(*arguments)
    assert time.monotonic() - began < 30
    assert not caught.value.retryable
    assert "wrong" not in caught.value.message


def test_a_missing_bucket_is_named(swift):
    store = opened(swift.settings(store_url="s3://no-such-bucket"))
    with pytest.raises(
        UploadFailed, match=r"s3://no-such-bucket/ could not take object: NoSuchBucket"
    ) as caught:
        store.put("object", b"object")
    assert not caught.value.retryable
    with pytest.raises(
        FarmUnreachable, match=r"s3://no-such-bucket/ did not answer for object: NoSuchBucket"
    ):
        store.get("object")


def test_a_redirect_to_another_host_is_not_followed():
    with web_server() as elsewhere, web_server() as service:
        service.redirect("/bucket/object", to=elsewhere.serve("/bucket/object", b"forged"))
        settings = Settings(
            store_url="s3://bucket",
            s3_endpoint=service.url(""),
            s3_access_key="key",
            s3_secret_key="secret",
            s3_path_style=True,
            store_retry_s=0,
        )
        with pytest.raises(FarmUnreachable):
            opened(settings).get("object")
        assert service.requests
        assert elsewhere.requests == []


def test_a_put_whose_source_is_missing_fails_and_leaves_nothing(store, tmp_path):
    with pytest.raises(UploadFailed, match="the store could not take object: No such file"):
        store.put("object", tmp_path / "missing")
    assert list(store.keys("")) == []


def test_an_interrupted_download_is_restarted(proxied, proxy, large, tmp_path):
    proxied.put("large", large)
    proxy.cut(2, down=PART_BYTES)
    assert proxied.fetch("large", tmp_path / "here").read_bytes() == large.read_bytes()
    assert proxy.cuts == 0


def test_an_interrupted_upload_is_restarted(proxied, proxy, large, tmp_path):
    proxy.cut(6, up=PART_BYTES // 2)
    proxied.put("large", large)
    assert proxied.fetch("large", tmp_path / "here").read_bytes() == large.read_bytes()
    assert proxy.cuts == 0


def test_a_failed_upload_keeps_the_previous_object(swift, proxy, large):
    settings = swift.settings(s3_endpoint=f"http://127.0.0.1:{proxy.port}", store_retry_s=0)
    opened(settings).put("large", b"the first")
    proxy.cut(1000, up=PART_BYTES // 2)
    with pytest.raises(UploadFailed):
        opened(settings).put("large", large)
    proxy.cut(0)
    assert opened(settings).get("large") == b"the first"


def test_a_service_that_restarts_is_waited_for(swift):
    store = opened(swift.settings(store_retry_s=60))
    store.put("first", b"object")
    with ThreadPoolExecutor() as pool:
        swift.kill()
        began = time.monotonic()
        put = pool.submit(store.put, "second", b"object")
        got = pool.submit(store.get, "first")
        time.sleep(2)
        swift.start()
        put.result()
        assert got.result() == store.get("second") == b"object"
    assert time.monotonic() - began > 2


@pytest.mark.parametrize(
    ("call", "arguments", "error"),
    [
        ("put", ("object", b"object"), UploadFailed),
        ("get", ("object",), FarmUnreachable),
        ("size", ("object",), FarmUnreachable),
        ("keys", ("",), FarmUnreachable),
        ("delete", ("object",), FarmUnreachable),
    ],
)
def test_a_service_that_stays_down_is_a_retryable_error(swift, proxy, call, arguments, error):
    store = opened(swift.settings(s3_endpoint=f"http://127.0.0.1:{proxy.port}", store_retry_s=1))
    proxy.close()
    began = time.monotonic()
    with pytest.raises(error, match=f"the store s3://.* {arguments[0]}.*refused") as caught:
        getattr(store, call)(*arguments)
    assert caught.value.retryable
    assert time.monotonic() - began > 1


class Scripted:
    """A service with scripted responses, one a request; the last one repeats."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers = list(answers)
        self.requests = 0
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.requests += 1
                status, body = (
                    script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                )
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                if status == 503:
                    self.send_header("Retry-After", "3600")
                if status == 200 and not body:
                    self.send_header("ETag", '"etag"')
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def settings(self, **changes: float) -> Settings:
        endpoint = f"http://127.0.0.1:{self._server.server_port}"
        keys = {"s3_access_key": "key", "s3_secret_key": "the-secret", "s3_endpoint": endpoint}
        return Settings.model_validate({"store_url": "s3://bucket", **keys, **changes})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    services: list[Scripted] = []

    def start(*answers: tuple[int, str]) -> Scripted:
        services.append(Scripted(*answers))
        return services[-1]

    yield start
    for service in services:
        service.close()


def failure(code: str, message: str = "so it is") -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "times"),
    [(503, "SlowDown", 5), (500, "InternalError", 5), (400, "RequestTimeout", 3)],
)
def test_temporary_errors_are_retried(scripted, status, code, times):
    service = scripted(*[(status, failure(code))] * times, (200, ""))
    opened(service.settings(store_retry_s=30)).put("object", b"object")
    assert service.requests == times + 1


STARTED = (
    200,
    "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
)
JOINED = (
    200,
    '<CompleteMultipartUploadResult><ETag>"etag-3"</ETag></CompleteMultipartUploadResult>',
)


def test_an_error_in_a_large_upload_repeats_one_part_only(scripted, large):
    service = scripted(STARTED, (200, ""), (503, failure("SlowDown")), (200, ""), (200, ""), JOINED)
    opened(service.settings(store_retry_s=0)).put("object", large)
    assert service.requests == 6


def test_the_services_message_is_reported_and_truncated(scripted):
    service = scripted((500, failure("InternalError", "no " * 1000)))
    with pytest.raises(UploadFailed, match="InternalError: no no no") as caught:
        opened(service.settings(store_retry_s=0)).put("object", b"object")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented"), (400, "EntityTooLarge")]
)
def test_a_permanent_error_is_not_retried(scripted, status, code):
    service = scripted((status, failure(code)))
    with pytest.raises(UploadFailed, match=f"{code}: so it is") as caught:
        opened(service.settings(store_retry_s=30)).put("object", b"object")
    assert (service.requests, caught.value.retryable) == (1, False)


def test_a_wrong_clock_is_named_as_what_to_set(scripted):
    service = scripted((403, failure("RequestTimeTooSkewed", "The difference is too large.")))
    with pytest.raises(UploadFailed, match="Set the clock of this machine"):
        opened(service.settings(store_retry_s=30)).put("object", b"object")


def test_parts_that_were_not_joined_are_an_error(scripted, large):
    service = scripted(STARTED, (200, ""), (200, ""), (200, ""), (200, failure("InternalError")))
    with pytest.raises(UploadFailed, match="it did not confirm that it joined the parts") as caught:
        opened(service.settings(store_retry_s=0)).put("object", large)
    assert (service.requests, caught.value.retryable) == (5, True)


def test_a_server_that_is_not_s3_is_an_error_of_the_farm(scripted):
    service = scripted((200, "<html><p>Welcome!</html>"))
    with pytest.raises(FarmUnreachable, match="did not answer for the keys under '': ParseError"):
        opened(service.settings(store_retry_s=0)).keys("")


@pytest.fixture
def safe(swift: Swift, certificate: Path) -> Iterator[str]:
    """The URL of the service behind TLS."""
    proxy = FaultyProxy(swift.ports["proxy"], tls=server_context(certificate))
    yield f"https://127.0.0.1:{proxy.port}"
    proxy.close()


def test_a_service_behind_tls_is_used_if_its_ca_is_trusted(
    swift, safe, certificate, large, tmp_path
):
    store = opened(swift.settings(s3_endpoint=safe, s3_ca=certificate))
    store.put("object", large)
    assert store.fetch("object", tmp_path / "here").read_bytes() == large.read_bytes()


def test_a_service_with_an_untrusted_certificate_is_refused(swift, safe):
    store = opened(swift.settings(s3_endpoint=safe, store_retry_s=60))
    began = time.monotonic()
    with pytest.raises(UploadFailed, match="CERTIFICATE_VERIFY_FAILED") as caught:
        store.put("object", b"object")
    assert not caught.value.retryable
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_ca_file_without_certificates_is_refused(swift, safe, tmp_path, content):
    if content:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"FARM_S3_CA: got .*ca\.pem'; it has no certificates"):
        opened(swift.settings(s3_endpoint=safe, s3_ca=tmp_path / "ca.pem"))
