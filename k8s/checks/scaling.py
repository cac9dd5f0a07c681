"""Findings in what scales, and in the metrics that it and the alerts read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import promql_parser

from farm.metrics import METRICS
from k8s.checks.manifests import Manifest, of_kind, title

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}
"""Series of a metric that have names of their own."""

OTHERS = ("keda_scaler_detail_errors_total",)
"""Metrics of other programs."""


def targets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """An autoscaler has a target, which leaves the number of replicas to it."""
    deployments = {each["metadata"]["name"]: each for each in of_kind(manifests, "Deployment")}
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        name = scaler["spec"]["scaleTargetRef"]["name"]
        if name not in deployments:
            yield f"{title(scaler)}: there is no Deployment {name}"
        elif "replicas" in deployments[name]["spec"]:
            yield f"{title(scaler)}: Deployment {name} sets replicas, which each apply would reset"


def triggers(manifests: Sequence[Manifest]) -> Iterator[str]:
    """GPUs are scaled by the jobs that can use them; without an answer none is taken away."""
    for scaler in of_kind(manifests, "ScaledObject", "ScaledJob"):
        for trigger in scaler["spec"]["triggers"]:
            yield from (f"{title(scaler)}: {each}" for each in _trigger(trigger))
        if scaler["kind"] == "ScaledObject" and "fallback" not in scaler["spec"]:
            yield f"{title(scaler)}: it has no fallback for a Prometheus that does not answer"


def _trigger(trigger: Any) -> Iterator[str]:
    metadata = trigger["metadata"]
    if trigger["type"] != "prometheus":
        yield f"trigger {trigger['type']}: allowed: prometheus"
        return
    if "max(farm_runnable_jobs)" not in metadata["query"]:
        yield "its query does not count max(farm_runnable_jobs)"
    if "farm_queue_length" in metadata["query"]:
        yield "its query counts messages; one video uses one GPU at a time"
    if metadata.get("ignoreNullValues") != "false":
        yield 'without ignoreNullValues: "false" no answer counts as 0'


def expressions(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Queries can be parsed, and read metrics that the farm has."""
    known = {*OTHERS}
    for metric in METRICS:
        known |= {metric.name + suffix for suffix in SUFFIXES.get(metric.kind, ("",))}
    for manifest, query in _queries(manifests):
        try:
            names = set(_names(promql_parser.parse(query)))
        except ValueError as error:
            yield f"{title(manifest)}: {query}: {error}"
            continue
        for name in sorted(names - known):
            yield f"{title(manifest)}: the farm has no metric {name}"


def _queries(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, str]]:
    for manifest in of_kind(manifests, "ScaledObject", "ScaledJob"):
        for trigger in manifest["spec"]["triggers"]:
            yield manifest, trigger["metadata"].get("query", "")
    for manifest in of_kind(manifests, "PrometheusRule"):
        for group in manifest["spec"]["groups"]:
            for rule in group["rules"]:
                yield manifest, rule["expr"]


def _names(node: Any) -> Iterator[str]:
    """The metrics of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector) and node.name:
        yield node.name
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(node, part, None)
        if inner is not None:
            yield from _names(inner)
    for argument in getattr(node, "args", ()):
        yield from _names(argument)
