"""The PromQL queries of the dashboard and the alerts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

DOCKER = Path(__file__).parents[2] / "docker"


def alerts() -> list[dict[str, Any]]:
    """The alerting rules, in their order."""
    document = yaml.safe_load((DOCKER / "prometheus" / "alerts.yaml").read_text())
    (group,) = document["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard."""
    document = json.loads((DOCKER / "grafana" / "dashboard.json").read_text())
    return list(document["panels"])


def queries() -> dict[str, str]:
    """Every expression, by the name of its alert, or by its panel and target."""
    found = {alert["alert"]: alert["expr"] for alert in alerts()}
    for panel in panels():
        for target in panel["targets"]:
            found[f"{panel['title']}, {target['refId']}"] = target["expr"]
    return found


def selectors(query: str) -> Iterator[tuple[str, dict[str, str], set[str]]]:
    """Each vector selector of a query: its metric, its equality matchers, and all of its labels."""
    for selector in _selectors(promql_parser.parse(query)):
        matchers = selector.matchers.matchers
        equal = {
            matcher.name: matcher.value
            for matcher in matchers
            if matcher.op == promql_parser.MatchOp.Equal
        }
        yield selector.name, equal, {matcher.name for matcher in matchers}


def _selectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(node, part, None)
        if inner is not None:
            yield from _selectors(inner)
    for argument in getattr(node, "args", ()):
        yield from _selectors(argument)


def is_of_two_servers(name: str) -> bool:
    """Whether a metric exists only for RabbitMQ, or for a registry that is not the broker."""
    return name == "farm_broker_alarm" or name.startswith("farm_registry_")
