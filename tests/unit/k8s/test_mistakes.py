"""A mistake that is planted into an overlay is found, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from k8s.checks import network, pods, scaling, schema
from k8s.checks.manifests import POD_PATHS, Manifest
from tests.unit.k8s.conftest import Render


class Mistake(NamedTuple):
    """A value that is set in one manifest, or removed from it if it is None."""

    check: Callable[[Sequence[Manifest]], Any]
    overlay: str
    manifest: str
    """Kind and name."""
    path: str
    """Keys and numbers, separated by `/`; `pod` and `main` lead to the pod and its container."""
    value: Any
    finding: str
    """A part of what is found."""


SCHEMA = [
    Mistake(schema.findings, "local", "Deployment cpu", "pod/terminationGracePeriodSecond", 9, "terminationGracePeriodSecond"),
    Mistake(schema.findings, "local", "Deployment cpu", "main/resources/limits/memory", [], "memory"),
    Mistake(schema.findings, "cloud", "PodDisruptionBudget cpu", "spec/maxUnavailble", 1, "maxUnavailble"),
    Mistake(schema.findings, "local", "Deployment cpu", "kind", "Deploiment", "find schema"),
    Mistake(schema.findings, "cloud", "ScaledObject gpu", "spec/coolDownPeriod", 300, "coolDownPeriod"),
    Mistake(schema.findings, "cloud", "ScaledObject gpu", "spec/fallback/behavior", "keep", "keep"),
    Mistake(schema.findings, "cloud", "ScaledObject gpu", "spec/triggers/0/metadata/threshold", 1, "not of type 'string'"),
    Mistake(schema.findings, "spot", "ScaledJob gpu", "spec/scalingStrategy/strategy", "defualt", "defualt"),
    Mistake(schema.findings, "spot", "ScaledJob gpu", "pod/restartPolcy", "Never", "restartPolcy"),
    Mistake(schema.findings, "cloud", "PodMonitor farm", "spec/podMetricsEndpoints/0/intervall", "15s", "intervall"),
    Mistake(schema.findings, "cloud", "PrometheusRule farm", "spec/groups/0/rules/0/sumary", "x", "sumary"),
    Mistake(schema.findings, "cloud", "ServiceMonitor gateway", "spec/endpoint", [], "endpoint"),
    Mistake(schema.findings, "cloud", "ExternalSecret store", "spec/secretStoreRef/kind", "Vault", "Vault"),
]  # fmt: skip

CODE = [
    Mistake(pods.commands, "local", "Deployment cpu", "main/args", ["worker", "cpus"], "'cpus' is not one of"),
    Mistake(pods.commands, "local", "Deployment gateway", "main/args", ["gateways"], "No such command"),
    Mistake(pods.commands, "local", "Deployment gateway", "main/args", None, "it has no command"),
    Mistake(pods.commands, "local", "Deployment gateway", "main/args/1", "--adress", "No such option"),
    Mistake(pods.images, "local", "Deployment cpu", "main/image", "infinitetalk-farm:0.1.0-worker", "no target worker"),
    Mistake(pods.images, "local", "Deployment cpu", "main/image", "infinitetalk-farm:0.1.0-light", "light is not made for farm worker cpu"),
    Mistake(pods.images, "local", "Deployment cpu", "main/image", "infinitetalk-farm:0.0.9-cpu", "this is version"),
    Mistake(pods.images, "local", "StatefulSet registry", "main/image", "valkey:latest", "no fixed version"),
    Mistake(pods.images, "spot", "ScaledJob gpu", "main/image", "infinitetalk-farm:0.1.0-gpu", "several registries"),
    Mistake(pods.variables, "local", "Deployment cpu", "main/env/0/name", "FARM_DOWNLOADS", "FARM_DOWNLOADS: there is no such field"),
    Mistake(pods.variables, "local", "ConfigMap settings", "data/FARM_GRACE", "60", "FARM_GRACE: there is no such field"),
    Mistake(pods.variables, "local", "ConfigMap settings", "data/FARM_GRACE_S", "a minute", "FARM_GRACE_S: got"),
    Mistake(pods.secrets, "local", "ConfigMap settings", "data/FARM_S3_SECRET_KEY", "x", "FARM_S3_SECRET_KEY: a secret is written down"),
    Mistake(pods.secrets, "local", "ConfigMap registry", "kind", "Secret", "a Secret is made in the cluster"),
    Mistake(pods.stores, "local", "Job bucket", "main/env/1/value", "s3://other/farm", "pods have several"),
    Mistake(pods.stores, "local", "Deployment metrics", "main/env", [], "without the Secret store"),
    Mistake(pods.references, "local", "Deployment cpu", "main/envFrom/1/secretRef/name", "brokers", "no Secret brokers"),
    Mistake(pods.references, "local", "Deployment cpu", "main/envFrom/0/configMapRef/name", "settings", "no ConfigMap settings"),
    Mistake(pods.references, "cloud", "PersistentVolumeClaim weights", "metadata/name", "weight", "no PersistentVolumeClaim weights"),
    Mistake(pods.references, "local", "Deployment cpu", "pod/serviceAccountName", "default", "no ServiceAccount default"),
    Mistake(pods.grace_periods, "local", "ConfigMap settings", "data/FARM_GRACE_S", "90", "FARM_GRACE_S=90 needs 100 or more"),
    Mistake(pods.grace_periods, "local", "Deployment gpu", "pod/terminationGracePeriodSeconds", None, "got 30; FARM_GRACE_S=60"),
    Mistake(pods.grace_periods, "spot", "ScaledJob gpu", "pod/terminationGracePeriodSeconds", 30, "leaves 15"),
    Mistake(pods.probes, "local", "Deployment gpu", "main/startupProbe", None, "has no startupProbe"),
    Mistake(pods.probes, "local", "Deployment gpu", "main/livenessProbe/exec/command", ["celery", "inspect", "ping"], "not farm health"),
    Mistake(pods.posture, "local", "Deployment gpu", "pod/enableServiceLinks", None, "enableServiceLinks is not false"),
    Mistake(pods.posture, "local", "Deployment gpu", "pod/automountServiceAccountToken", True, "automountServiceAccountToken"),
    Mistake(pods.posture, "local", "Deployment gpu", "pod/securityContext/runAsUser", 0, "runAsUser"),
    Mistake(pods.posture, "local", "CronJob gc", "main/securityContext", None, "readOnlyRootFilesystem"),
    Mistake(pods.posture, "spot", "ScaledJob gpu", "pod/initContainers/0/securityContext/capabilities", {}, "capabilities"),
    Mistake(pods.posture, "cloud", "Deployment gpu", "main/volumeMounts/2/readOnly", False, "/weights is writable"),
    Mistake(pods.resources, "local", "Deployment page", "main/resources/limits", {}, "a memory limit"),
    Mistake(pods.resources, "spot", "ScaledJob gpu", "pod/tolerations", [], "a toleration"),
    Mistake(pods.gpus, "cloud", "ConfigMap settings", "data/FARM_GPUS", "2", "nvidia.com/gpu: got 1; FARM_GPUS=2 needs 2"),
    Mistake(network.ports, "local", "Deployment gateway", "main/args/2", "0.0.0.0:8080", "it listens at 8080"),
    Mistake(network.ports, "local", "ConfigMap settings", "data/FARM_METRICS_ADDRESS", "0.0.0.0:9464", "has port 9464"),
    Mistake(network.ports, "local", "Service page", "spec/ports/0/port", 8080, "has no port 8080"),
    Mistake(network.ports, "local", "Deployment gateway", "main/readinessProbe/httpGet/port", "web", "there is no port web"),
    Mistake(network.ports, "local", "NetworkPolicy registry", "spec/ingress/0/ports/0/port", 6380, "none of its pods has port 6380"),
    Mistake(network.ports, "cloud", "PodMonitor farm", "spec/podMetricsEndpoints/0/port", "metric", "has no port metric"),
    Mistake(network.selectors, "local", "Service page", "spec/selector", {"app.kubernetes.io/name": "ui"}, "chooses no pod"),
    Mistake(network.selectors, "local", "PodDisruptionBudget cpu", "spec/selector/matchLabels", {"app": "cpu"}, "chooses no pod"),
    Mistake(network.services, "cloud", "ServiceMonitor gateway", "spec/selector/matchLabels", {"app": "x"}, "chooses no Service"),
    Mistake(network.services, "cloud", "Service page", "metadata/name", "pages", "no Service page"),
    Mistake(network.reach, "local", "NetworkPolicy default-deny", "spec/policyTypes", ["Ingress"], "none denies"),
    Mistake(network.reach, "local", "NetworkPolicy to-internet", "spec/egress/0/to/0/ipBlock/except", [], "169.254.169.254"),
    Mistake(network.reach, "local", "NetworkPolicy to-internet-by-tls", "spec/egress/0/to/1/ipBlock/cidr", "::/0", "fd00:ec2::254"),
    Mistake(network.reach, "local", "NetworkPolicy to-registry", "spec/podSelector/matchExpressions/0/values", ["cpu"], "lets it reach the registry"),
    Mistake(network.reach, "local", "NetworkPolicy registry", "spec/ingress/0/from", [], "lets it reach the registry"),
    Mistake(network.reach, "spot", "NetworkPolicy to-internet-by-tls", "spec/podSelector/matchExpressions/0/values", ["cpu"], "lets it reach the store"),
    Mistake(scaling.targets, "cloud", "ScaledObject gpu", "spec/scaleTargetRef/name", "gpus", "no Deployment gpus"),
    Mistake(scaling.targets, "cloud", "Deployment cpu", "spec/replicas", 3, "sets replicas"),
    Mistake(scaling.triggers, "cloud", "ScaledObject gpu", "spec/triggers/0/metadata/ignoreNullValues", None, "no answer counts as 0"),
    Mistake(scaling.triggers, "cloud", "ScaledObject gpu", "spec/fallback", None, "it has no fallback"),
    Mistake(scaling.triggers, "spot", "ScaledJob gpu", "spec/triggers/0/metadata/query", "sum(farm_queue_length)", "counts messages"),
    Mistake(scaling.triggers, "spot", "ScaledJob gpu", "spec/triggers/0/type", "redis", "allowed: prometheus"),
    Mistake(scaling.expressions, "spot", "ScaledJob gpu", "spec/triggers/0/metadata/query", "max(farm_runable_jobs)", "no metric farm_runable_jobs"),
    Mistake(scaling.expressions, "cloud", "PrometheusRule farm", "spec/groups/0/rules/0/expr", "farm_broker_up ==", "farm_broker_up =="),
]  # fmt: skip


@pytest.mark.parametrize(
    "mistake", SCHEMA, ids=lambda mistake: f"{mistake.manifest} {mistake.path}"
)
def test_a_mistake_is_found_by_schema(mistake: Mistake, rendered: Render) -> None:
    manifests = [find(rendered(mistake.overlay), mistake.manifest)]
    assert list(mistake.check(manifests)) == []
    plant(manifests[0], mistake)
    assert mistake.finding in "\n".join(mistake.check(manifests))


@pytest.mark.parametrize(
    "mistake", CODE, ids=lambda mistake: f"{mistake.manifest} {mistake.path} {mistake.value}"[:70]
)
def test_a_mistake_is_found_by_the_code(mistake: Mistake, rendered: Render) -> None:
    manifests = rendered(mistake.overlay)
    plant(find(manifests, mistake.manifest), mistake)
    assert mistake.finding in "\n".join(mistake.check(manifests))


def find(manifests: Sequence[Manifest], name: str) -> Manifest:
    """The manifest of a kind and a name, without the hash of a generated one."""
    kind, wanted = name.split(" ")
    (found,) = [
        each
        for each in manifests
        if each["kind"] == kind
        and (
            each["metadata"]["name"] == wanted
            or (each["metadata"]["name"].startswith(f"{wanted}-") and kind == "ConfigMap")
        )
    ]
    return found


def plant(manifest: Manifest, mistake: Mistake) -> None:
    """Sets the value, or removes it."""
    *keys, last = _keys(manifest, mistake.path)
    node: Any = manifest
    for key in keys:
        node = node[key]
    if mistake.value is None:
        del node[last]
    else:
        node[last] = mistake.value


def _keys(manifest: Manifest, path: str) -> list[Any]:
    pod = ("spec", *POD_PATHS.get(manifest["kind"], ()), "spec")
    short = {"pod": pod, "main": (*pod, "containers", 0)}
    first, *rest = path.split("/")
    keys = [*short.get(first, (first,)), *rest]
    return [int(key) if str(key).isdigit() else key for key in keys]
