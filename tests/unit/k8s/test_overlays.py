"""Every overlay is in order, and agrees with the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import check
from k8s.checks import pods
from k8s.checks.manifests import OVERLAYS, render, workloads
from k8s.checks.pods import SECRETS
from k8s.generate import files
from tests.unit.k8s.conftest import Render

ROOT = Path(__file__).parents[3]
NAMES = sorted(folder.name for folder in OVERLAYS.iterdir())


@pytest.mark.parametrize("overlay", NAMES)
def test_nothing_is_found_in_an_overlay(overlay: str, rendered: Render) -> None:
    assert check.findings(rendered(overlay)) == []


def test_every_component_is_a_part_of_an_overlay_or_named_in_the_docs() -> None:
    used = "".join((OVERLAYS / name / "kustomization.yaml").read_text() for name in NAMES)
    docs = (ROOT / "docs" / "kubernetes.md").read_text()
    for component in (ROOT / "k8s" / "components").iterdir():
        assert component.name in used + docs


@pytest.mark.parametrize(
    "component", ["rabbitmq", "gpu-warm", "gpu-scaled-job", "external-secrets"]
)
def test_a_component_fits_an_overlay_of_ones_own(component: str, tmp_path: Path) -> None:
    # Given an overlay elsewhere, with the base, the store and one more component
    k8s = Path(os.path.relpath(ROOT / "k8s", tmp_path))
    components = ["s3", component, "restricted"]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "mine",
        "resources": [str(k8s / "base")],
        "components": [str(k8s / "components" / name) for name in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    # Then it is rendered, and nothing is found
    assert check.findings(render(tmp_path)) == []


def test_the_rules_and_the_dashboard_are_those_of_docker() -> None:
    for path, text in files().items():
        assert path.read_text() == text, f"{path.name}: run python -m k8s.generate"


def test_the_docs_say_how_each_secret_is_made(rendered: Render) -> None:
    docs = (ROOT / "docs" / "kubernetes.md").read_text()
    for name, keys in SECRETS.items():
        assert f"create secret generic {name}" in docs or f"create secret tls {name}" in docs
        for key in keys.replace(";", ",").replace("beside RabbitMQ ", "").split(","):
            assert key.strip().split(" ")[0].removesuffix(",") in docs


def test_every_secret_but_that_of_the_ingress_may_come_from_a_vault(rendered: Render) -> None:
    made = [each for each in rendered("cloud") if each["kind"] == "ExternalSecret"]
    assert {each["metadata"]["name"] for each in made} == SECRETS.keys() - {"ingress-tls"}


def test_all_kinds_of_workers_are_there(rendered: Render) -> None:
    def kinds(overlay: str) -> set[str]:
        found = [each.main.get("args", [""]) for each in workloads(rendered(overlay))]
        return {args[1] for args in found if args[0] == "worker"}

    assert kinds("local") == kinds("cloud") == kinds("spot") == {"cpu", "downloads", "gpu"}
    assert kinds("runpod") == {"cpu", "downloads", "bridge"}


def test_the_grace_periods_of_the_docs_fit_amazons_spot_nodes(rendered: Render) -> None:
    # Given those that docs/kubernetes.md and the overlay name
    sentence = "FARM_GRACE_S=100 and terminationGracePeriodSeconds 110"
    assert sentence in (ROOT / "docs" / "kubernetes.md").read_text()
    manifests = rendered("spot")
    (gpu,) = [each for each in workloads(manifests) if each.name == "gpu"]
    pod: Any = gpu.template["spec"]
    pod["terminationGracePeriodSeconds"] = 110
    (grace,) = [each for each in pod["containers"][0]["env"] if each["name"] == "FARM_GRACE_S"]
    grace["value"] = "100"
    # Then they are refused for Google's and Azure's, and for no others
    assert "leaves 15" in "".join(pods.grace_periods(manifests))
    pod["tolerations"] = [each for each in pod["tolerations"] if each["key"] == "nvidia.com/gpu"]
    assert list(pods.grace_periods(manifests)) == []


def test_an_overlay_that_cannot_be_rendered_says_why(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    command = [sys.executable, "-m", "k8s.check", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "missing.yaml" in done.stdout
