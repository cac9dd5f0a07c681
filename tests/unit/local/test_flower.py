"""The command line and the environment of Flower."""

from __future__ import annotations

from farm.local.flower import flower_command, flower_environ
from farm.net.address import ListenAddress
from farm.settings import Settings

ADDRESS = ListenAddress("127.0.0.1", 45_557)


def test_the_password_is_passed_in_the_environment():
    settings = Settings(flower_auth="me:secret")
    assert flower_environ(settings, {"PATH": "/bin"})["FLOWER_BASIC_AUTH"] == "me:secret"


def test_flower_ignores_configuration_files_in_the_working_folder():
    assert "--conf=/dev/null" in flower_command(ADDRESS)


def test_the_operators_flower_options_override_ours():
    assert flower_environ(Settings(), {"FLOWER_TASKS_COLUMNS": "uuid"}) == {
        "FLOWER_TASKS_COLUMNS": "uuid"
    }
