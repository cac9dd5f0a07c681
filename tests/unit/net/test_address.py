"""Addresses that web pages may listen on."""

from __future__ import annotations

import socket

import pytest

from farm import Farm
from farm.errors import InvalidInput
from farm.local.flower import check_flower
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.ui.serve import open_page
from tests.support.commands import run_python

HERE = ListenAddress("127.0.0.1", 45_557)


def flower(address):
    check_flower(address, Settings())


def ui(address):
    with open_page(Farm("inline://", settings=Settings()), address):
        pass


@pytest.fixture(params=[flower, ui])
def page(request):
    """Opens each kind of page."""
    return request.param


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1:5555", ListenAddress("127.0.0.1", 5555), "http://127.0.0.1:5555"),
        ("[::1]:80", ListenAddress("::1", 80), "http://[::1]:80"),
        ("0.0.0.0:65535", ListenAddress("0.0.0.0", 65535), "http://0.0.0.0:65535"),
    ],
)
def test_an_address_is_parsed(text, address, url):
    assert ListenAddress.parse(text, field="flower") == address
    assert (str(address), address.url) == (text, url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5555",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "host:5555",
        "127.0.0.1:x",
    ],
)
def test_an_invalid_address_is_refused(text):
    with pytest.raises(InvalidInput, match="allowed: ADDRESS:PORT, for example"):
        ListenAddress.parse(text, field="flower")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_loopback_needs_no_password(page, host):
    page(ListenAddress(host, 45_557))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "8.8.8.8"])
def test_an_address_beyond_loopback_needs_a_password(page, host):
    with pytest.raises(
        InvalidInput,
        match=f"got {host}, which other .* reach; allowed: loopback, or set FARM_[A-Z]*_AUTH",
    ):
        page(ListenAddress(host, 45_557))


@pytest.mark.parametrize("auth", ["me:secret", "me:secret,you:other"])
def test_an_address_beyond_loopback_with_a_password_is_accepted(auth):
    check_flower(ListenAddress("0.0.0.0", 45_557), Settings(flower_auth=auth))


@pytest.mark.parametrize(
    "auth", ["", "me", "me:", ":secret", "me:sec,ret", "me:sec ret", "me:sécret", "a:b:c,d"]
)
def test_a_password_that_flower_would_misread_is_refused_and_not_shown(auth):
    with pytest.raises(InvalidInput) as caught:
        check_flower(HERE, Settings(flower_auth=auth))
    assert (
        caught.value.message
        == "FARM_FLOWER_AUTH: allowed: USER:PASSWORD, comma-separated, in ASCII and without spaces"
    )


def test_a_port_that_is_taken_is_refused(page):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = ListenAddress(*other.getsockname())
        with pytest.raises(
            InvalidInput, match="where another program listens; allowed: a free port"
        ):
            page(taken)


@pytest.mark.parametrize(
    ("check", "package", "extra"),
    [
        (
            "from farm.local.flower import check_flower; check_flower(HERE, Settings())",
            "flower",
            "monitor",
        ),
        (
            "from farm.ui.serve import open_page; open_page(Farm('inline://'), HERE).__enter__()",
            "gradio",
            "ui",
        ),
    ],
)
def test_without_the_package_the_error_says_what_to_install(check, package, extra):
    lines = [
        f"import sys; sys.modules[{package!r}] = None",
        "from farm import Farm",
        "from farm.net.address import ListenAddress",
        "from farm.settings import Settings",
        f"HERE = ListenAddress('127.0.0.1', 45557); {check}",
    ]
    errors = run_python("\n".join(lines), check=False).stderr
    assert f"{package} is not installed; pip install '.[{extra}]'" in errors
