"""Findings in pods: what they run, with which settings, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from farm.cli import cli
from farm.errors import InvalidInput
from farm.settings import PREFIX, UNPREFIXED, Settings
from k8s.checks.manifests import (
    OURS,
    Manifest,
    Workload,
    environ,
    image_name,
    image_tag,
    of_kind,
    title,
    workloads,
)

DOCKERFILE = Path(__file__).parents[2] / "docker" / "Dockerfile"

TARGETS = {
    "light": {"bucket", "gateway", "metrics", "gc", "worker bridge"},
    "page": {"ui"},
    "cpu": {"worker cpu", "worker downloads", "worker gpu"},
    "gpu": {"worker gpu"},
}
"""What each target of the Dockerfile is there for."""

SECRETS = {
    "broker": "FARM_BROKER_URL; beside RabbitMQ FARM_REGISTRY_URL and FARM_BROKER_API too",
    "store": "FARM_S3_ACCESS_KEY, FARM_S3_SECRET_KEY",
    "registry": "REGISTRY_PASSWORD",
    "page": "FARM_UI_AUTH",
    "webhook": "FARM_WEBHOOK_SECRET",
    "runpod": "RUNPOD_API_KEY",
    "rabbitmq": "RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS",
    "ingress-tls": "tls.crt, tls.key",
}
"""The Secrets of a farm and their keys; docs/kubernetes.md says how they are made."""

WRITABLE = ("/var/lib/farm", "/tmp", "/data", "/var/lib/rabbitmq")  # noqa: S108
"""The folders that are written to: of our containers the first two."""

EXIT_S = 6
"""Seconds after FARM_GRACE_S in which a worker interrupts, then kills what hangs."""

UPLOAD_S = 4
"""For what a chunk leaves: its tail has 44 MB at 480, 100 MB at 720."""

SPOT_S = 15
"""Seconds that Google leaves a pod on a spot node; Azure leaves 30, Amazon 120."""

SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")

CARD = "nvidia.com/gpu"
"""The resource of NVIDIA's device plugin, and the taint of nodes that have it."""

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def commands(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every argument is one of the `farm` command's."""
    for workload in workloads(manifests):
        for container in workload.containers:
            for line in _command_lines(container):
                if not line:
                    yield f"{workload}: container {container['name']}: it has no command"
                elif problem := _usage_error(line):
                    yield f"{workload}: farm {' '.join(line)}: {problem}"


def _command_lines(container: Any) -> Iterator[list[str]]:
    """The `farm` command lines of a container: its own, and those of its probes."""
    if image_name(container["image"]) == OURS and "command" not in container:
        yield container.get("args", [])
    for probe in PROBES:
        line = container.get(probe, {}).get("exec", {}).get("command", [])
        if line[:1] == ["farm"]:
            yield line[1:]


def _usage_error(line: Sequence[str]) -> str | None:
    """What click says of a command line, without running it."""
    command: click.Command = cli
    arguments = list(line)
    try:
        while isinstance(command, click.Group):
            name, found, arguments = command.resolve_command(click.Context(command), arguments)
            assert found is not None, name  # noqa: S101
            command = found
        command.make_context("farm", arguments)
    except click.ClickException as error:
        return error.format_message()
    return None


def images(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Ours have this version and a target that has what the command needs; others a fixed tag."""
    containers = [(each, part) for each in workloads(manifests) for part in each.containers]
    for workload, container in containers:
        problems = _image_problems(container)
        yield from (f"{workload}: {container['image']}: {problem}" for problem in problems)
    images = [part["image"] for _, part in containers if image_name(part["image"]) == OURS]
    if len({image.rpartition("/")[0] for image in images}) > 1:
        yield f"images: they come from several registries: {', '.join(sorted(set(images)))}"


def _image_problems(container: Any) -> Iterator[str]:
    image = container["image"]
    if image_name(image) != OURS:
        if not re.search(r"\d", image_tag(image)):
            yield "it has no fixed version"
        return
    found, _, target = image_tag(image).rpartition("-")
    if found != version(OURS):
        yield f"this is version {version(OURS)}"
    if target not in _targets():
        yield f"docker/Dockerfile has no target {target}"
    elif "command" not in container and _role(container) not in TARGETS[target]:
        yield f"{target} is not made for farm {_role(container)}"


def _targets() -> set[str]:
    """Those of the Dockerfile that are images of the farm."""
    text = DOCKERFILE.read_text() if DOCKERFILE.is_file() else ""
    named = set(re.findall(r"^FROM .* AS (\w+)$", text, re.MULTILINE | re.IGNORECASE))
    return set(TARGETS) & named if named else set(TARGETS)


def _role(container: Any) -> str:
    """`worker cpu` of a worker, else the command alone."""
    words = container.get("args", [])
    return " ".join(words[:2] if words[:1] == ["worker"] else words[:1])


def variables(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every variable is a setting, with a value that the farm accepts."""
    for workload in workloads(manifests):
        if not workload.is_ours:
            continue
        given = environ(workload, manifests)
        try:
            Settings.load(given)
        except InvalidInput as error:
            yield f"{workload}: {error.message}"


def secrets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Secrets are referred to, never written down."""
    hidden = {name for name, field in Settings.model_fields.items() if not field.repr}
    names = {f"{PREFIX}{name.upper()}" for name in hidden}
    names |= {name for name, field in UNPREFIXED.items() if field in hidden}
    for manifest in of_kind(manifests, "Secret"):
        yield f"{title(manifest)}: a Secret is made in the cluster, not in a manifest"
    for workload in workloads(manifests):
        for name in sorted(names & environ(workload, manifests).keys()):
            yield f"{workload}: {name}: a secret is written down; refer to a Secret"


def stores(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Pods with the store's keys have one store; without keys none in S3 can be opened."""
    urls = set()
    for workload in filter(lambda each: each.is_ours, workloads(manifests)):
        url = environ(workload, manifests).get("FARM_STORE_URL", "")
        if ("Secret", "store") in _references(workload):
            urls.add(url)
        elif url.startswith("s3://"):
            yield f"{workload}: FARM_STORE_URL: got {url}, without the Secret store"
    if len(urls) > 1:
        yield f"FARM_STORE_URL: pods have several: {', '.join(sorted(urls))}"


VOLUMES = (
    ("configMap", "ConfigMap", "name"),
    ("secret", "Secret", "secretName"),
    ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
)
"""The field of a volume with a name, and the kind of what has that name."""


def references(manifests: Sequence[Manifest]) -> Iterator[str]:
    """ConfigMaps, claims and accounts exist; Secrets are among those that the docs make."""
    names = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    for workload in workloads(manifests):
        for kind, name in _references(workload):
            known = name in SECRETS if kind == "Secret" else (kind, name) in names
            if not known:
                yield f"{workload}: there is no {kind} {name}"


def _references(workload: Workload) -> Iterator[tuple[str, str]]:
    """The kind and the name of what a pod refers to."""
    yield "ServiceAccount", workload.pod.get("serviceAccountName", "default")
    for container in workload.containers:
        for source in container.get("envFrom", ()):
            for way, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if way in source:
                    yield kind, source[way]["name"]
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in workload.pod.get("volumes", ()):
        for way, kind, field in VOLUMES:
            if way in volume:
                yield kind, volume[way][field]


def grace_periods(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A pod has the time that its worker takes to drain; a spot node has the time of its pods."""
    default = Settings.model_fields["grace_s"].default
    for workload in workloads(manifests):
        given = workload.pod.get("terminationGracePeriodSeconds", 30)
        grace_s = float(environ(workload, manifests).get("FARM_GRACE_S", default))
        needed = grace_s + EXIT_S + UPLOAD_S
        if workload.is_ours and workload.runs_on and given < needed:
            yield (
                f"{workload}: terminationGracePeriodSeconds: got {given}; FARM_GRACE_S={grace_s:g} "
                f"needs {needed:g} or more"
            )
        taints = {each.get("key") for each in workload.pod.get("tolerations", ())}
        if taints & set(SPOT_TAINTS) and given > SPOT_S:
            yield (
                f"{workload}: terminationGracePeriodSeconds: got {given}; a spot node of Google's "
                f"leaves {SPOT_S}"
            )


def probes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Whatever runs on has three probes; those of workers ask files, never a broker."""
    for workload in workloads(manifests):
        if not workload.runs_on:
            continue
        for probe in PROBES:
            if probe not in workload.main:
                yield f"{workload}: it has no {probe}"
        if workload.is_ours and workload.main.get("args", [])[:1] == ["worker"]:
            lines = [
                workload.main.get(probe, {}).get("exec", {}).get("command") for probe in PROBES
            ]
            if lines != [["farm", "health", f"--{each}"] for each in ("startup", "ready", "live")]:
                yield f"{workload}: its probes are not farm health --startup, --ready and --live"


POD_POSTURE = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,  # of a service named farm-* they would be unknown settings
}
CONTAINER_POSTURE = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def posture(manifests: Sequence[Manifest]) -> Iterator[str]:
    """No root, no capability, no token, a root that is read-only, and two folders to write to."""
    for workload in workloads(manifests):
        for key, value in POD_POSTURE.items():
            if workload.pod.get(key) != value:
                yield f"{workload}: {key} is not {str(value).lower()}"
        context = workload.pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < 10_000:
            yield f"{workload}: runAsNonRoot with a runAsUser of 10000 or more is missing"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload}: seccompProfile is not RuntimeDefault"
        for container in workload.containers:
            given = container.get("securityContext", {})
            for key, expected in CONTAINER_POSTURE.items():
                if given.get(key) != expected:
                    yield f"{workload}: container {container['name']}: {key} is not {expected}"
        yield from _mounts(workload)


def _mounts(workload: Workload) -> Iterator[str]:
    allowed = (
        WRITABLE[:2]
        if workload.is_ours and workload.runs_on
        else (*WRITABLE, "/weights", "/download")
    )
    for container in workload.containers:
        for mount in container.get("volumeMounts", ()):
            if not mount.get("readOnly") and mount["mountPath"] not in allowed:
                yield f"{workload}: {mount['mountPath']} is writable; allowed: {', '.join(allowed)}"


def gpus(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A gpu worker has as many cards as it shares its chunks among."""
    default = Settings.model_fields["gpus"].default
    for workload in workloads(manifests):
        if workload.main.get("args") != ["worker", "gpu"]:
            continue
        wanted = int(environ(workload, manifests).get("FARM_GPUS", default))
        given = int(workload.main.get("resources", {}).get("limits", {}).get(CARD, 0))
        if given != wanted and (given or wanted != default):
            yield f"{workload}: {CARD}: got {given}; FARM_GPUS={wanted} needs {wanted}"


def resources(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Requests for the scheduler, a limit of the memory, and GPUs where there are some."""
    for workload in workloads(manifests):
        for container in workload.containers:
            given = container.get("resources", {})
            missing = {"cpu", "memory"} - given.get("requests", {}).keys()
            if missing or "memory" not in given.get("limits", {}):
                name = container["name"]
                yield f"{workload}: container {name}: it needs requests and a memory limit"
        wants_gpu = CARD in workload.main.get("resources", {}).get("limits", {})
        tolerated = {each.get("key") for each in workload.pod.get("tolerations", ())}
        if wants_gpu and not (workload.pod.get("nodeSelector") and CARD in tolerated):
            yield f"{workload}: for its GPU it needs a nodeSelector and a toleration"
