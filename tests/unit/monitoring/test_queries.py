"""The queries of the dashboard and the alerts use existing metrics and labels."""

from __future__ import annotations

import re
from itertools import product

import pytest
import yaml

from farm.metrics import METRICS
from tests.support.queries import DOCKER, alerts, panels, queries, selectors

LABELS = {
    **{metric.name: set(metric.labels) for metric in METRICS},
    **{f"{each.name}_bucket": {*each.labels, "le"} for each in METRICS if each.kind == "histogram"},
    **{f"{each.name}_count": set(each.labels) for each in METRICS if each.kind == "histogram"},
}


@pytest.mark.parametrize("where", queries())
def test_a_query_uses_known_metrics_and_labels(where):
    selected = list(selectors(queries()[where]))
    assert selected
    for name, _, labels in selected:
        assert labels <= LABELS[name]


@pytest.mark.parametrize("where", queries())
def test_a_query_groups_by_labels_of_its_metrics(where):
    query = queries()[where]
    grouped = {
        label.strip()
        for labels in re.findall(r"by \(([^)]*)\)", query)
        for label in labels.split(",")
    }
    assert grouped <= set().union(*(LABELS[name] for name, _, _ in selectors(query)))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_has_a_severity_and_a_summary(alert):
    assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in ("page", "ticket")
    named = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    grouped = re.findall(r"by \(([^)]*)\)", alert["expr"])
    assert named <= {label.strip() for labels in grouped for label in labels.split(",")}


def test_a_legend_uses_labels_that_its_query_keeps():
    for panel in panels():
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))) - {"instance"}
            assert all(re.search(rf"by \([^)]*\b{label}\b", target["expr"]) for label in named), (
                panel["title"]
            )


def test_panels_do_not_overlap():
    seen = set()
    for panel in panels():
        position = panel["gridPos"]
        columns, rows = (
            range(position[at], position[at] + position[size]) for at, size in ("xw", "yh")
        )
        cells = set(product(columns, rows))
        assert not cells & seen
        assert position["x"] + position["w"] <= 24
        seen |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_prometheus_is_configured_with_the_alerts_and_the_ports_of_farm_up():
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())
    assert all((DOCKER / "prometheus" / file).is_file() for file in config["rule_files"])
    targets = [
        target
        for job in config["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    ]
    assert targets == ["127.0.0.1:9464", "127.0.0.1:9465", "127.0.0.1:9466"]
