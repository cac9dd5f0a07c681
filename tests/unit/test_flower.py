"""Where Flower may listen, and what others may see of it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from farm.embedded.flower import Address, check_flower, flower_command, flower_environ
from farm.errors import InvalidInput
from farm.settings import Settings

HERE = Address("127.0.0.1", 45_557)
EVERYWHERE = Address("0.0.0.0", 45_557)


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1:5555", Address("127.0.0.1", 5555), "http://127.0.0.1:5555"),
        ("[::1]:80", Address("::1", 80), "http://[::1]:80"),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535), "http://0.0.0.0:65535"),
    ],
)
def test_an_address_is_read_as_people_write_it(text, address, url):
    assert Address.parse(text) == address
    assert address.url == url


@pytest.mark.parametrize(
    "text", ["", "5555", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "host:5555", "127.0.0.1:x"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidInput, match="allowed: ADDRESS:PORT, for example"):
        Address.parse(text)


def test_loopback_needs_no_password():
    check_flower(HERE, Settings())
    check_flower(Address("::1", 45_557), Settings())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "8.8.8.8"])
def test_beyond_loopback_a_password_is_asked_for(host):
    with pytest.raises(InvalidInput, match=f"got {host}, which others reach; allowed: loopback, or set FARM_"):
        check_flower(Address(host, 45_557), Settings())


def test_beyond_loopback_a_password_is_enough():
    check_flower(EVERYWHERE, Settings(flower_auth="me:secret"))


@pytest.mark.parametrize("auth", ["", "me", "me:", ":secret", "me:sec,ret", "me:sec ret", "me:sécret", "a:b:c,d"])
def test_a_password_that_flower_would_misread_is_refused_and_not_shown(auth):
    with pytest.raises(InvalidInput) as caught:
        check_flower(HERE, Settings(flower_auth=auth))
    assert caught.value.message == "FARM_FLOWER_AUTH: allowed: USER:PASSWORD in ASCII, without blanks and commas"


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Address(*other.getsockname())
        with pytest.raises(InvalidInput, match="where another program listens; allowed: a free port"):
            check_flower(taken, Settings())


def test_without_flower_it_is_said_what_to_install():
    program = (
        "import sys; sys.modules['flower'] = None; from farm.embedded.flower import *; "
        "check_flower(Address('127.0.0.1', 45557), Settings())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr
    assert "pip install infinitetalk-farm[monitor]" in said


def test_the_password_is_in_the_environment_and_not_in_the_command():
    settings = Settings(flower_auth="me:secret", broker_url="redis://:hidden@127.0.0.1:1/0")
    assert flower_environ(settings, {"PATH": "/bin"})["FLOWER_BASIC_AUTH"] == "me:secret"
    assert not {"secret", "hidden"} & set(" ".join(flower_command(HERE)).replace(":", " ").split())


def test_flower_runs_no_configuration_that_lies_about():
    assert "--conf=/dev/null" in flower_command(HERE)


def test_an_operators_word_on_flowers_options_stands():
    assert flower_environ(Settings(), {"FLOWER_TASKS_COLUMNS": "uuid"}) == {"FLOWER_TASKS_COLUMNS": "uuid"}
