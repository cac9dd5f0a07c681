"""In what an endpoint differs from what it is to be, for people and for Runpod.

Objects have the names of Runpod's REST API. Values of variables are shown if a file holds them
itself, so that no secret is printed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

MASK = "***"


def changes(current: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an update in which an endpoint differs."""
    return {name: value for name, value in body.items() if _differs(name, current.get(name), value)}


def describe_changes(
    current: Mapping[str, Any], changed: Mapping[str, Any], *, literals: Container[str]
) -> Iterator[str]:
    """One line for each value that an update changes; of variables only `literals` are shown."""
    for name, value in changed.items():
        before = current.get(name)
        if name == "env":
            yield from _describe_env(before or {}, value, literals)
        elif isinstance(value, dict):
            parts = describe_changes(before or {}, value, literals=literals)
            yield from (f"{name}.{part}" for part in parts)
        elif _differs(name, before, value):
            yield f"{name}: {_shown(before)} -> {_shown(value)}"


def masked(body: Mapping[str, Any], *, literals: Container[str] = ()) -> dict[str, Any]:
    """A body, or an endpoint as Runpod has it, with the values of `literals` alone in `env`."""
    env = {
        name: value if name in literals else MASK for name, value in (body.get("env") or {}).items()
    }
    return {**body, "env": env} if "env" in body else dict(body)


def _describe_env(
    current: Mapping[str, str], wanted: Mapping[str, str], literals: Container[str]
) -> Iterator[str]:
    for name in {**current, **wanted}:
        before, after = current.get(name), wanted.get(name)
        if before != after and name in literals:
            yield f"env.{name}: {_shown(before)} -> {_shown(after)}"
        elif before != after:
            states = [MASK if value else "nothing" for value in (before, after)]
            yield f"env.{name}: {' -> '.join(states)}"


def _differs(name: str, current: Any, wanted: Any) -> bool:
    """Whether a value is another one; of a group of settings, whether one of its parts is."""
    if isinstance(wanted, dict) and name != "env":
        parts = current or {}
        return any(_differs(part, parts.get(part), value) for part, value in wanted.items())
    return (current or None) != (wanted or None)


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "", []) else str(value)
