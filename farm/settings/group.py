"""A group of settings, and how their values are written in the environment."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict


class SettingsGroup(BaseModel):
    """Each field is an environment variable: `lease_s` is FARM_LEASE_S."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    title: ClassVar[str]
    """Its heading in the settings page."""


def _split(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


COMMA_SEPARATED = BeforeValidator(_split)
EMPTY_IS_NONE = BeforeValidator(_none_if_empty)
