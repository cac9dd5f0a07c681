"""What the dashboard and the alerts ask Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

DOCKER = Path(__file__).parents[2] / "docker"


def alerts() -> list[dict[str, Any]]:
    """The rules, in their order."""
    (group,) = yaml.safe_load((DOCKER / "prometheus" / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    """What the dashboard shows."""
    return list(json.loads((DOCKER / "grafana" / "dashboard.json").read_text())["panels"])


def queries() -> dict[str, str]:
    """Every expression, by where it stands."""
    asked = {alert["alert"]: alert["expr"] for alert in alerts()}
    for panel in panels():
        asked |= {f"{panel['title']}, {target['refId']}": target["expr"] for target in panel["targets"]}
    return asked


def selectors(query: str) -> Iterator[tuple[str, dict[str, str], set[str]]]:
    """The name of each sample that an expression selects, the labels that have to be equal, and all that it names."""
    for found in _selected(promql_parser.parse(query)):
        wanted = found.matchers.matchers
        equal = {each.name: each.value for each in wanted if each.op == promql_parser.MatchOp.Equal}
        yield found.name, equal, {each.name for each in wanted}


def _selected(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (inner := getattr(node, part, None)) is not None:
            yield from _selected(inner)
    for argument in getattr(node, "args", ()):
        yield from _selected(argument)
