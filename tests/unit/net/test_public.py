"""URLs that name a private address, however it is spelt."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from farm.net.public import private_host, url_host


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "10.0.0.8",
        "169.254.169.254",
        "user:secret@192.168.1.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "[fd00::1]",
        "localhost",
        "LOCALHOST.",
        "farm.localhost",
        "⑫7.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "\u00ad10.0.0.8",
        "ⓛocalhost",
    ],
)
def test_a_private_address_is_known_in_every_spelling(host: str):
    assert private_host(f"http://{host}:8000/face.png")


@pytest.mark.parametrize("host", ["example.org", "1.1.1.1", "[2606:4700::1111]", "localhost.org"])
def test_others_are_left_to_the_worker_that_connects(host: str):
    assert private_host(f"https://{host}/face.png") is None


def test_a_network_that_the_operator_allows_is_not_refused():
    assert private_host("http://10.1.2.3/face.png", [ip_network("10.1.0.0/16")]) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///face.png",
        "https://[::1",
        "http://exa mple.org/",
        "http://a..b/",
        "http://example.org:99999/",
        "http://" + "a" * 64 + ".org/",
    ],
)
def test_a_url_without_a_host_has_none(url: str):
    assert url_host(url) is None


def test_a_host_is_as_it_is_looked_up():
    assert url_host("https://user:secret@Bücher.example:8443/") == "xn--bcher-kva.example"
