"""Rendered manifests, and the parts of them that the checks look at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

OVERLAYS = Path(__file__).parents[1] / "overlays"

Manifest = dict[str, Any]

POD_PATHS = {
    "Deployment": ("template",),
    "StatefulSet": ("template",),
    "Job": ("template",),
    "CronJob": ("jobTemplate", "spec", "template"),
    "ScaledJob": ("jobTargetRef", "template"),
}
"""Where the pod template of each kind is, below `spec`."""

RUNS_ON = ("Deployment", "StatefulSet", "ScaledJob")
"""Kinds of pods that run until they are told to stop."""

NAME = "app.kubernetes.io/name"
"""The label by which all selectors choose."""

OURS = "infinitetalk-farm"
"""The name of our images, without a registry."""


@dataclass(frozen=True)
class Workload:
    """A manifest that makes pods."""

    kind: str
    name: str
    spec: Mapping[str, Any]
    template: Mapping[str, Any]

    @property
    def pod(self) -> Manifest:
        return dict(self.template["spec"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template.get("metadata", {}).get("labels", {}))

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """Those that run first among them."""
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def main(self) -> Manifest:
        """The container that the pod is there for."""
        return dict(self.pod["containers"][0])

    @property
    def runs_on(self) -> bool:
        return self.kind in RUNS_ON

    @property
    def is_ours(self) -> bool:
        return image_name(self.main["image"]) == OURS

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def render(folder: Path) -> list[Manifest]:
    """The manifests of an overlay; ValueError with kustomize's words if it cannot be rendered."""
    command = (_kubectl(), "kustomize", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ValueError(f"{folder.name}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def _kubectl() -> str:
    """The one of this environment, else the system's."""
    here = str(Path(sys.executable).parent)
    path = shutil.which("kubectl", path=here) or shutil.which("kubectl")
    if path is None:
        raise ValueError("kubectl is not installed; `make .venv/tools` installs it")
    return path


def workloads(manifests: Sequence[Manifest]) -> Iterator[Workload]:
    """The manifests that make pods."""
    for manifest in manifests:
        if manifest["kind"] in POD_PATHS:
            template = manifest["spec"]
            for key in POD_PATHS[manifest["kind"]]:
                template = template[key]
            name = manifest["metadata"]["name"]
            yield Workload(manifest["kind"], name, manifest["spec"], template)


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> Iterator[Manifest]:
    return (manifest for manifest in manifests if manifest["kind"] in kinds)


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def image_name(image: str) -> str:
    """An image's name without registry and tag."""
    return image.rpartition("/")[2].partition(":")[0]


def image_tag(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[2]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses a pod; one that is empty chooses all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    expressions = selector.get("matchExpressions", ())
    return all(labels.get(each["key"]) in each["values"] for each in expressions)


def environ(workload: Workload, manifests: Sequence[Manifest]) -> dict[str, str]:
    """The variables of the main container with known values: all but those of Secrets."""
    maps = {
        each["metadata"]["name"]: each.get("data", {}) for each in of_kind(manifests, "ConfigMap")
    }
    found: dict[str, str] = {}
    for source in workload.main.get("envFrom", ()):
        if "configMapRef" in source:
            found |= maps.get(source["configMapRef"]["name"], {})
    for variable in workload.main.get("env", ()):
        if "value" in variable:
            found[variable["name"]] = variable["value"]
    return found
