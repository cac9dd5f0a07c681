"""The command that shows the settings."""

from __future__ import annotations

import json
import os

import click

from farm.cli.options import json_option
from farm.cli.render import echo, echo_json
from farm.settings import GROUPS, PREFIX, Settings

HIDDEN = "(not shown)"
"""In place of a secret, or of a URL that may have one."""


@click.command("settings")
@click.option("--given", "only_given", is_flag=True, help="only those that are set somewhere")
@json_option("print one line of JSON per setting")
def show_settings(only_given: bool, as_json: bool) -> None:
    """Show every setting, its value and where that is from.

    A FARM_ variable goes before one without the prefix, that before farm.toml in FARM_HOME, and
    that before the default. Secrets are not shown, nor URLs that may have a password.

    Example: farm settings --given
    """
    given = Settings.given(os.environ)
    values = Settings.load(os.environ)
    shown = values.model_dump(mode="json")
    for group in GROUPS:
        names = [name for name in group.model_fields if name in given or not only_given]
        if names and not as_json:
            echo(f"{group.title}:")
        for name in names:
            is_secret = not Settings.model_fields[name].repr
            value = HIDDEN if is_secret and getattr(values, name) else shown[name]
            origin = given[name].origin if name in given else "default"
            if as_json:
                echo_json(
                    json.dumps({"setting": PREFIX + name.upper(), "value": value, "from": origin})
                )
            else:
                echo(f"  {PREFIX + name.upper():32}  {_text(value):24}  {origin}")


def _text(value: object) -> str:
    """A value as a variable has it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "unset" if value is None else str(value)
