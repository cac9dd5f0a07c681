"""What others may see of Flower."""

from __future__ import annotations

from farm.local.flower import flower_command, flower_environ
from farm.net.address import Address
from farm.settings import Settings

HERE = Address("127.0.0.1", 45_557)


def test_the_password_is_in_the_environment():
    settings = Settings(flower_auth="me:secret")
    assert flower_environ(settings, {"PATH": "/bin"})["FLOWER_BASIC_AUTH"] == "me:secret"


def test_flower_runs_no_configuration_that_lies_about():
    assert "--conf=/dev/null" in flower_command(HERE)


def test_an_operators_word_on_flowers_options_stands():
    assert flower_environ(Settings(), {"FLOWER_TASKS_COLUMNS": "uuid"}) == {"FLOWER_TASKS_COLUMNS": "uuid"}
