"""The command line and the environment of Flower."""

from __future__ import annotations

import stat

import pytest

from farm.local.flower import auth_file, flower_auth, flower_command, flower_environ
from farm.net.address import LOGINS, ListenAddress
from farm.settings import Settings

ADDRESS = ListenAddress("127.0.0.1", 45_557)


def test_the_password_is_passed_in_the_environment():
    settings = Settings(flower_auth="me:secret")
    assert flower_environ(settings, {"PATH": "/bin"})["FLOWER_BASIC_AUTH"] == "me:secret"


def test_without_a_password_of_the_operators_the_home_keeps_a_random_one(tmp_path):
    settings = Settings(home=tmp_path / "a")
    auth = flower_auth(settings)
    assert LOGINS.fullmatch(auth)
    assert flower_auth(settings) == auth != flower_auth(Settings(home=tmp_path / "b"))
    assert stat.S_IMODE(auth_file(settings).stat().st_mode) == 0o600


def test_the_operators_password_is_kept_nowhere(tmp_path):
    settings = Settings(home=tmp_path, flower_auth="me:secret")
    assert flower_auth(settings) == "me:secret"
    assert list(tmp_path.iterdir()) == []


def test_flower_ignores_configuration_files_in_the_working_folder():
    assert "--conf=/dev/null" in flower_command(ADDRESS)


def test_the_operators_flower_options_override_ours():
    assert flower_environ(Settings(), {"FLOWER_TASKS_COLUMNS": "uuid"}) == {
        "FLOWER_TASKS_COLUMNS": "uuid"
    }


@pytest.mark.parametrize(
    ("api", "flowers"),
    [
        ("https://me:secret@rabbit:15671", "https://me:secret@rabbit:15671/api/"),
        ("http://rabbit:15672/", "http://rabbit:15672/api/"),
        ("http://me:with%2Fslash@rabbit:15672", "http://rabbit:15672/api/"),
    ],
)
def test_flower_asks_rabbitmqs_api_with_a_login_that_it_can_read(api, flowers):
    environ = flower_environ(Settings(broker_api=api), {})
    assert environ["FLOWER_BROKER_API"] == flowers
