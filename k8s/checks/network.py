"""Findings in the network: ports, selectors, and who may reach whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from k8s.checks.manifests import Manifest, Workload, environ, of_kind, selects, title, workloads

METADATA = (
    "169.254.169.254",  # Amazon, Google, Azure and most others
    "169.254.170.2",  # Amazon's containers
    "100.100.100.200",  # Alibaba
    "168.63.129.16",  # Azure's host
    "192.0.0.192",  # Oracle
    "fd00:ec2::254",  # Amazon by IPv6
)
"""Addresses at which a node's credentials are."""

REGISTRY_PORT = 6379


def ports(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Ports of addresses, probes, services and policies are ports of the pods."""
    for workload in workloads(manifests):
        yield from _listening(workload, environ(workload, manifests))
    for service in of_kind(manifests, "Service"):
        spec = service["spec"]
        targets = [each.get("targetPort", each["port"]) for each in spec["ports"]]
        yield from _missing(service, targets, _selected(spec["selector"], manifests))
    for monitor in of_kind(manifests, "PodMonitor"):
        spec = monitor["spec"]
        targets = [each["port"] for each in spec["podMetricsEndpoints"]]
        yield from _missing(monitor, targets, _chosen(spec["selector"], manifests))
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            yield from _policy_ports(policy, rule, manifests)


def _missing(
    manifest: Manifest, targets: Sequence[int | str], chosen: Sequence[Workload]
) -> Iterator[str]:
    """Ports that a chosen pod does not have."""
    for pod in chosen:
        for target in targets:
            if target not in _ports(pod):
                yield f"{title(manifest)}: {pod} has no port {target}"


def _listening(workload: Workload, variables: Mapping[str, str]) -> Iterator[str]:
    args = workload.main.get("args", [])
    if workload.is_ours and "--address" in args:
        port = int(args[args.index("--address") + 1].rpartition(":")[2])
        if port not in _ports(workload):
            yield f"{workload}: it listens at {port}, which is no containerPort"
    if "metrics" in _ports(workload) and workload.is_ours:
        port = int(variables.get("FARM_METRICS_ADDRESS", ":0").rpartition(":")[2])
        if port not in _ports(workload):
            yield f"{workload}: FARM_METRICS_ADDRESS has port {port}, which is no containerPort"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for way in ("httpGet", "tcpSocket"):
            port = workload.main.get(probe, {}).get(way, {}).get("port")
            if port is not None and port not in _ports(workload):
                yield f"{workload}: {probe}: there is no port {port}"


def _policy_ports(policy: Manifest, rule: Any, manifests: Sequence[Manifest]) -> Iterator[str]:
    """A policy may open a port that only some of its pods have, but none that no pod has."""
    chosen = _chosen(policy["spec"]["podSelector"], manifests)
    known = {port for pod in chosen for port in _ports(pod)}
    for port in rule.get("ports", ()):
        if chosen and port["port"] not in known:
            yield f"{title(policy)}: none of its pods has port {port['port']}"


def _ports(workload: Workload) -> set[int | str]:
    found: set[int | str] = set()
    for container in workload.containers:
        for port in container.get("ports", ()):
            found |= {port["containerPort"], port.get("name", port["containerPort"])}
    return found


def selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What has to choose something does."""
    for manifest in of_kind(manifests, "Service"):
        if not _selected(manifest["spec"]["selector"], manifests):
            yield f"{title(manifest)}: its selector chooses no pod"
    for manifest in of_kind(manifests, "PodDisruptionBudget", "PodMonitor"):
        if not _chosen(manifest["spec"]["selector"], manifests):
            yield f"{title(manifest)}: its selector chooses no pod"
    for manifest in of_kind(manifests, "Deployment", "StatefulSet"):
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        if not selects(manifest["spec"]["selector"], labels):
            yield f"{title(manifest)}: its selector does not choose its own pods"


def services(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What points to a Service points to one that is there."""
    metadata = [each["metadata"] for each in of_kind(manifests, "Service")]
    for manifest in of_kind(manifests, "ServiceMonitor"):
        selector = manifest["spec"]["selector"]
        if not any(selects(selector, each.get("labels", {})) for each in metadata):
            yield f"{title(manifest)}: its selector chooses no Service"
    names = {each["name"] for each in metadata}
    for ingress in of_kind(manifests, "Ingress"):
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        for name in sorted({path["backend"]["service"]["name"] for path in paths} - names):
            yield f"{title(ingress)}: there is no Service {name}"


def reach(manifests: Sequence[Manifest]) -> Iterator[str]:
    """All is denied that no policy allows; no pod reaches a metadata address, all the registry."""
    policies = [each["spec"] for each in of_kind(manifests, "NetworkPolicy")]
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if deny not in policies:
        yield "NetworkPolicy: none denies what no other allows"
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", ()):
            for peer in rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}]):
                if "ipBlock" in peer:
                    yield from _metadata(policy, peer["ipBlock"])
    for workload in workloads(manifests):
        names = [each.get("secretRef", {}).get("name") for each in workload.main.get("envFrom", ())]
        if "broker" in names and not _may_reach(workload, "registry", REGISTRY_PORT, manifests):
            yield f"{workload}: no policy lets it reach the registry"
        if (
            workload.kind != "StatefulSet"
            and "store" in names
            and not _reaches_store(workload, manifests)
        ):
            yield f"{workload}: no policy lets it reach the store"


def _metadata(policy: Manifest, block: Any) -> Iterator[str]:
    network = ip_network(block["cidr"])
    excepted = [ip_network(each) for each in block.get("except", ())]
    for address in map(ip_address, METADATA):
        if address in network and not any(address in each for each in excepted):
            yield f"{title(policy)}: it lets pods reach {address}, where a node's credentials are"


def _may_reach(workload: Workload, name: str, port: int, manifests: Sequence[Manifest]) -> bool:
    """Whether one policy lets a pod out and another one lets it in."""
    target = next((each for each in workloads(manifests) if each.name == name), None)
    if target is None:
        return False
    specs = [each["spec"] for each in of_kind(manifests, "NetworkPolicy")]
    out = any(
        selects(spec["podSelector"], workload.labels) and _allows(rule, "to", target.labels, port)
        for spec in specs
        for rule in spec.get("egress", ())
    )
    into = any(
        selects(spec["podSelector"], target.labels) and _allows(rule, "from", workload.labels, port)
        for spec in specs
        for rule in spec.get("ingress", ())
    )
    return out and into


def _allows(rule: Any, peers: str, labels: Mapping[str, str], port: int) -> bool:
    chosen = any(
        "podSelector" in peer
        and "namespaceSelector" not in peer
        and selects(peer["podSelector"], labels)
        for peer in rule.get(peers, ())
    )
    return chosen and any(each["port"] == port for each in rule["ports"])


def _reaches_store(workload: Workload, manifests: Sequence[Manifest]) -> bool:
    if _may_reach(workload, "s3", 8333, manifests):
        return True
    return any(
        selects(policy["spec"]["podSelector"], workload.labels)
        and any("ipBlock" in peer for peer in rule.get("to", ()))
        and any(each["port"] == 443 for each in rule["ports"])
        for policy in of_kind(manifests, "NetworkPolicy")
        for rule in policy["spec"].get("egress", ())
    )


def _chosen(selector: Mapping[str, Any], manifests: Sequence[Manifest]) -> list[Workload]:
    return [each for each in workloads(manifests) if selects(selector, each.labels)]


def _selected(labels: Mapping[str, str], manifests: Sequence[Manifest]) -> list[Workload]:
    """The pods of a Service; its selector is labels alone."""
    return _chosen({"matchLabels": labels}, manifests)
