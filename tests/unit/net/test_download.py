"""Downloads: from which addresses, how much and for how long."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from farm.errors import DownloadFailed
from farm.net.download import download_file
from farm.net.public import is_public
from tests.support.web_server import WebServer, web_server

LOOPBACK = [ip_network("127.0.0.0/8")]

NOT_PUBLIC = {
    "private": "10.0.0.1 172.16.0.1 192.168.1.1 fc00::1 fd00::1 fec0::1",
    "this host": "127.0.0.1 0.0.0.0 :: ::1",
    "this link": "169.254.169.254 fe80::1 fe80::1%eth0",
    "carrier-grade NAT": "100.64.0.1 100.100.100.200",
    "multicast and broadcast": "224.0.0.1 239.1.1.1 255.255.255.255 ff02::1",
    "reserved": "192.0.0.1 192.0.2.1 198.18.0.1 240.0.0.1 2001:db8::1 100::1 3fff::1 5f00::1",
    "IETF protocols": "192.0.0.8 192.0.0.9 192.0.0.192 192.31.196.1 192.52.193.1 192.175.48.1 "
    "2001:20::1 2620:4f:8000::1",
    "IPv4 inside": "::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1::1 2001::1",
    "cloud services": "168.63.129.16 192.88.99.1",
}


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture
def get(tmp_path: Path) -> Callable[..., Path]:
    """Downloads with loopback allowed, where the tests' server runs."""

    def run(url: str, **options: Any) -> Path:
        path = tmp_path / "file"
        download_file(
            url,
            path,
            **(
                {"field": "cond_video", "max_bytes": 1000, "timeout_s": 5.0, "allow": LOOPBACK}
                | options
            ),
        )
        return path

    return run


def refused(get: Callable[..., Path], tmp_path: Path, url: str, **options: Any) -> DownloadFailed:
    """The error of downloading `url`; no file may be left."""
    with pytest.raises(DownloadFailed) as caught:
        get(url, **options)
    assert list(tmp_path.iterdir()) == []
    assert caught.value.message.startswith("cond_video: ")
    assert not caught.value.describe(at_stage="download")["cause_class"].startswith("_")
    return caught.value


def test_the_body_is_written_to_the_file(server, get):
    assert get(server.serve("/face.png", b"pixels")).read_bytes() == b"pixels"


def test_a_url_may_contain_spaces_and_non_ascii_letters(server, get):
    server.serve("/m%C3%BCller%20one.png", b"pixels")
    assert get(server.url("/müller one.png")).read_bytes() == b"pixels"


def test_three_redirects_are_followed(server, get):
    server.serve("/3", b"there")
    for step in range(3):
        server.redirect(f"/{step}", to=f"/{step + 1}")
    assert get(server.url("/0")).read_bytes() == b"there"


def test_a_fourth_redirect_is_refused(server, get, tmp_path):
    for step in range(4):
        server.redirect(f"/{step}", to=f"/{step + 1}")
    error = refused(get, tmp_path, server.url("/0"))
    assert "more than 3 redirects" in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://[::1]/"]
)
def test_a_redirect_into_the_private_network_is_refused(server, get, tmp_path, target):
    error = refused(get, tmp_path, server.redirect("/", to=target))
    assert "resolves to a non-public address" in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/x", "gopher://example.org/", ""]
)
def test_a_redirect_to_another_scheme_or_nowhere_is_refused(server, get, tmp_path, target):
    error = refused(get, tmp_path, server.redirect("/", to=target))
    assert not error.retryable


@pytest.mark.parametrize("location", ["/café.png", "/caf%C3%A9.png"])
def test_a_redirect_in_raw_utf8_is_followed(server, get, location):
    def redirect(handler):
        head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        handler.wfile.write(head.encode())

    server.replies["/"] = redirect
    server.serve("/caf%C3%A9.png", b"pixels")
    assert get(server.url("/")).read_bytes() == b"pixels"


def test_a_redirect_in_latin_1_is_followed(server, get):
    def redirect(handler):
        head = "HTTP/1.1 302 Found\r\nLocation: /café.png\r\nContent-Length: 0\r\n\r\n"
        handler.wfile.write(head.encode("latin-1"))

    server.replies["/"] = redirect
    server.serve("/caf%C3%A9.png", b"pixels")
    assert get(server.url("/")).read_bytes() == b"pixels"


def test_a_redirect_without_a_target_is_not_requested_again(server, get, tmp_path):
    error = refused(get, tmp_path, server.serve("/", b"", status=302))
    assert error.message.endswith("HTTP 302 without a Location header")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "retryable"), [(404, False), (403, False), (429, True), (500, True), (503, True)]
)
def test_an_error_status_is_named_and_retryable_if_temporary(
    server, get, tmp_path, status, retryable
):
    error = refused(get, tmp_path, server.serve("/gone", b"sorry", status=status))
    assert f"HTTP {status}" in error.message
    assert error.retryable is retryable


def test_loopback_is_refused_unless_the_operator_allows_it(server, get, tmp_path):
    refused(get, tmp_path, server.serve("/", b"secret"), allow=[])
    assert server.requests == []


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
def test_other_spellings_of_loopback_are_refused_too(server, get, tmp_path, host):
    server.serve("/", b"secret")
    error = refused(get, tmp_path, f"http://{host}:{server.port}/", allow=[])
    assert "resolves to a non-public address" in error.message


@pytest.mark.parametrize(
    "address", [address for line in NOT_PUBLIC.values() for address in line.split()]
)
def test_an_address_off_the_open_internet_is_not_public(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::1"])
def test_an_address_of_the_open_internet_is_public(address):
    assert is_public(ip_address(address))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no network of its own")
def test_a_public_address_of_this_machine_is_refused(tmp_path):
    # Given a machine with the public address 93.184.216.34, where a server listens
    program = """
        import socket
        from pathlib import Path
        from farm.net.download import download_file

        with socket.create_server(("0.0.0.0", 8000)):
            for port in (8000, 8001):
                try:
                    url = f"http://93.184.216.34:{port}/"
                    download_file(url, Path("file"), field="x", max_bytes=1, timeout_s=1)
                except Exception as error:
                    print(str(error).replace(str(port), "PORT"))
    """
    setup = "ip link set lo up && ip address add 93.184.216.34/32 dev lo && exec "
    done = subprocess.run(
        [
            *("unshare", "--map-root-user", "--net", "sh", "-c", setup + '"$@"', "sh"),
            *(sys.executable, "-c", textwrap.dedent(program)),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "ip:" in done.stderr:
        pytest.skip(done.stderr)
    # Then a port that is open cannot be told from one that is closed
    first, second = done.stdout.splitlines()
    assert first == second
    assert "resolves to a non-public address" in first


@pytest.mark.parametrize("port", [22, 25, 1023])
def test_a_port_that_the_operator_does_not_allow_is_refused(get, tmp_path, port):
    ports = [range(80, 81), range(443, 444), range(1024, 65_536)]
    error = refused(get, tmp_path, f"http://127.0.0.1:{port}/", ports=ports)
    assert f"port {port} is not allowed" in error.message
    assert not error.retryable


def test_a_redirect_to_a_port_that_is_not_allowed_is_refused(server, get, tmp_path):
    url = server.redirect("/", to="http://127.0.0.1:22/")
    error = refused(get, tmp_path, url, ports=[range(1024, 65_536)])
    assert "port 22 is not allowed" in error.message


def test_a_name_with_one_private_address_is_refused(get, tmp_path):
    answers = [ip_address("93.184.216.34"), ip_address("10.0.0.7")]
    error = refused(get, tmp_path, "http://face.example/", resolve=lambda host, port: answers)
    assert "face.example" in error.message
    assert "10.0.0.7" not in error.message


def test_dns_rebinding_has_no_effect(server, get):
    # Given a name that resolves to an allowed address once, and to a private one ever after
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "10.0.0.1")]

    # When it is downloaded, then it was resolved once, and the checked server has answered
    server.serve("/", b"pixels")
    assert get(f"http://face.example:{server.port}/", resolve=rebinding).read_bytes() == b"pixels"
    assert asked == ["face.example"]
    assert server.requests[0]["Host"] == f"face.example:{server.port}"


def test_the_next_address_is_tried_when_the_first_fails(server, get):
    server.serve("/", b"pixels")
    addresses = [ip_address("127.0.0.9"), ip_address("127.0.0.1")]
    assert get(f"http://face.example:{server.port}/", resolve=lambda host, port: addresses).exists()


def test_an_ipv6_host_keeps_its_brackets(server, get):
    server.serve("/", b"pixels")
    get(
        f"http://[2606:4700::1111]:{server.port}/",
        resolve=lambda host, port: [ip_address("127.0.0.1")],
    )
    assert server.requests[0]["Host"] == f"[2606:4700::1111]:{server.port}"


def test_an_international_name_is_resolved_in_its_ascii_form(server, get):
    asked = []
    server.serve("/", b"pixels")
    get(
        f"http://bücher.example:{server.port}/",
        resolve=lambda host, port: asked.append(host) or [ip_address("127.0.0.1")],
    )
    assert asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "face.png",
        "http://",
        "http:///x",
        "ftp://a/x",
        "http://a:99999/",
        "http://[::1",
        "http://a..b/",
    ],
)
def test_an_invalid_url_is_refused(get, tmp_path, url):
    assert not refused(get, tmp_path, url, resolve=lambda host, port: []).retryable


def test_credentials_are_sent_to_their_own_host_only(server, get):
    # Given a URL with a password that redirects to another host
    server.serve("/there", b"pixels")
    server.redirect("/", to=f"http://other.example:{server.port}/there")
    # When it is followed
    get(
        f"http://anna:se%63ret@face.example:{server.port}/",
        resolve=lambda host, port: [ip_address("127.0.0.1")],
    )
    # Then only the first host receives the password
    assert (
        server.requests[0]["Authorization"] == "Basic " + base64.b64encode(b"anna:secret").decode()
    )
    assert "Authorization" not in server.requests[1]


def test_an_error_contains_neither_password_nor_query(server, get, tmp_path):
    server.serve("/gone", b"", status=404)
    error = refused(
        get, tmp_path, f"http://anna:secret@127.0.0.1:{server.port}/gone?signature=abc#part"
    )
    assert f"http://127.0.0.1:{server.port}/gone: HTTP 404" in error.message
    assert "secret" not in str(error.describe(at_stage="download"))
    assert "abc" not in str(error.describe(at_stage="download"))


def test_an_error_sends_no_escapes_to_a_terminal(server, get, tmp_path):
    error = refused(get, tmp_path, "http://127.0.0.1/\x1b]0;PWNED\x07\x9b", ports=[])
    assert "/%1B]0;PWNED%07%9B: port 80" in error.message


def test_proxies_of_the_environment_are_ignored(server, get, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert get(server.serve("/", b"pixels")).exists()


def test_a_body_of_exactly_the_limit_is_accepted(server, get):
    assert get(server.serve("/", b"x" * 1000)).stat().st_size == 1000


def test_an_announced_size_above_the_limit_is_refused_before_the_body_is_read(
    server, get, tmp_path
):
    error = refused(get, tmp_path, server.serve("/", b"", Content_Length="5000000000"))
    assert "5,000,000,000 bytes; allowed: 1,000" in error.message
    assert not error.retryable


def test_an_unannounced_body_above_the_limit_is_aborted(server, get, tmp_path):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 400)

    server.replies["/"] = endless
    error = refused(get, tmp_path, server.url("/"))
    assert "more than the allowed 1,000 bytes" in error.message
    assert not error.retryable


def test_a_body_shorter_than_announced_is_retryable(server, get, tmp_path):
    error = refused(get, tmp_path, server.serve("/", b"half", Content_Length="8"))
    assert error.message.endswith("the connection broke off after 4 bytes")
    assert error.retryable


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "zstd", "deflate", "aws-chunked,gzip"])
def test_a_compressed_response_is_refused(server, get, tmp_path, encoding):
    error = refused(get, tmp_path, server.serve("/", b"..", Content_Encoding=encoding))
    assert f"Content-Encoding {encoding!r}" in error.message


@pytest.mark.parametrize("encoding", ["identity", "Identity", "aws-chunked", "UTF-8", "none", ""])
def test_an_encoding_that_is_no_compression_is_ignored(server, get, encoding):
    url = server.serve("/", b"pixels", Content_Encoding=encoding)
    assert get(url).read_bytes() == b"pixels"


def test_a_response_that_a_proxy_has_changed_is_accepted(server, get):
    assert get(server.serve("/", b"pixels", status=203)).read_bytes() == b"pixels"


def test_endless_informational_responses_end(server, get, tmp_path):
    def inform(handler):
        while True:
            handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)

    server.replies["/"] = inform
    error = refused(get, tmp_path, server.url("/"), timeout_s=60)
    assert "its headers have more than 262,144 bytes" in error.message


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Sends a byte at a time, for ever."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def test_a_slow_drip_ends_at_the_timeout(server, get, tmp_path):
    # Given a server that sends a byte at a time, so that no single wait is long
    server.replies["/"] = drip
    # When the timeout is half a second, then the download ends, and not before
    begun = time.monotonic()
    assert refused(get, tmp_path, server.url("/"), timeout_s=0.5).retryable
    assert time.monotonic() - begun >= 0.5


def test_a_server_slower_than_the_lowest_speed_is_given_up(server, get, tmp_path):
    # Given a server that sends a byte at a time
    server.replies["/"] = drip
    # When the lowest speed is a thousand bytes a second, averaged over a third of one
    error = refused(
        get, tmp_path, server.url("/"), timeout_s=60, min_bytes_per_s=1000, speed_window_s=0.3
    )
    # Then it does not wait for the timeout
    assert "bytes a second" in error.message
    assert error.message.endswith("allowed: at least 1,000")
    assert error.retryable


def test_a_silent_server_is_slow_too(server, get, tmp_path, released):
    server.replies["/"] = lambda handler: released.wait()
    error = refused(
        get, tmp_path, server.url("/"), timeout_s=60, min_bytes_per_s=1, speed_window_s=0.3
    )
    assert "it sent 0 bytes a second" in error.message


def test_a_file_that_comes_at_the_lowest_speed_is_downloaded(server, get):
    def send(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10):
            handler.wfile.write(b"x" * 100)
            time.sleep(0.05)

    server.replies["/"] = send
    path = get(server.url("/"), min_bytes_per_s=10, speed_window_s=0.2)
    assert path.stat().st_size == 1000


class Stopped(BaseException):
    """What a step raises when it is to stop."""


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set at the end of a test, so that what waits for it ends."""
    event = threading.Event()
    yield event
    event.set()


def assert_stops(get: Callable[..., Path], tmp_path: Path, url: str, **options: Any) -> None:
    """A download that waits ends within 5 seconds once it is stopped; it would take a minute."""
    asked = []

    def stop_at_the_second_call() -> None:
        asked.append(time.monotonic())
        if len(asked) > 1:
            raise Stopped

    begun = time.monotonic()
    with pytest.raises(Stopped):
        get(url, timeout_s=60, raise_if_stopped=stop_at_the_second_call, **options)
    assert time.monotonic() - begun < 5
    assert list(tmp_path.iterdir()) == []


def test_a_download_stops_while_the_server_is_silent_before_its_response(
    server, get, tmp_path, released
):
    server.replies["/"] = lambda handler: released.wait()
    assert_stops(get, tmp_path, server.url("/"))


def test_a_download_stops_while_the_server_is_silent_in_the_body(server, get, tmp_path, released):
    def half(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"half")
        released.wait()

    server.replies["/"] = half
    assert_stops(get, tmp_path, server.url("/"))


def test_a_download_stops_while_the_server_is_silent_in_the_tls_handshake(get, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert_stops(get, tmp_path, f"https://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_download_stops_while_the_resolver_is_silent(get, tmp_path, released):
    def resolve(host, port):
        released.wait()
        return []

    assert_stops(get, tmp_path, "http://face.example/", resolve=resolve)


def test_a_silent_resolver_ends_at_the_timeout(get, tmp_path, released):
    def resolve(host, port):
        released.wait()
        return []

    assert refused(get, tmp_path, "http://face.example/", resolve=resolve, timeout_s=0.3).retryable


def network_failure(get: Callable[..., Path], tmp_path: Path, port: int) -> DownloadFailed:
    error = refused(get, tmp_path, f"http://127.0.0.1:{port}/", timeout_s=1)
    described = error.describe(at_stage="download")
    assert described["cause_message"] == error.message
    assert error.retryable
    return error


def test_a_closed_port_cannot_be_told_from_one_that_speaks_no_http_or_nothing(
    get, tmp_path, caplog
):
    caplog.set_level(logging.INFO, logger="farm.net")

    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)  # else the connection is reset
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

    with (
        socket.socket() as closed,
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0)) as ssh,
    ):
        closed.bind(("127.0.0.1", 0))
        threading.Thread(target=greet, args=(ssh,)).start()
        ports = [each.getsockname()[1] for each in (closed, silent, ssh)]
        messages = {
            network_failure(get, tmp_path, port).message.replace(str(port), "PORT")
            for port in ports
        }
    assert len(messages) == 1
    # The operator is told.
    assert "Connection refused" in caplog.text
    assert "ReadTimeout" in caplog.text
    assert "RemoteProtocolError" in caplog.text


@pytest.mark.parametrize(
    ("errno", "retryable"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)]
)
def test_an_unknown_host_is_final_but_a_failing_resolver_is_not(get, tmp_path, errno, retryable):
    def fail(host, port):
        raise socket.gaierror(errno, "no")

    assert refused(get, tmp_path, "http://nowhere.example/", resolve=fail).retryable is retryable
