"""Writes the manifests that have their source elsewhere in the project.

    python -m k8s.generate            writes them
    python -m k8s.generate --check    exits 1 if one differs from its source

These are the alert rules and the dashboard: kustomize reads no file outside a component's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "k8s" / "components" / "monitoring"
RULES = ROOT / "docker" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboard.json"
NOTE = "# Written by `python -m k8s.generate` from docker/prometheus/alerts.yaml.\n"


def rules() -> str:
    """The alerts as a PrometheusRule."""
    rule: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "farm"},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    text: str = yaml.safe_dump(rule, sort_keys=False, width=1000)
    return NOTE + text


def files() -> dict[Path, str]:
    """What each generated file contains."""
    return {
        MONITORING / "rules.yaml": rules(),
        MONITORING / "dashboard.json": DASHBOARD.read_text(),
    }


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        stale = [path for path, text in files().items() if not _is_current(path, text)]
        for path in stale:
            print(f"{path.relative_to(ROOT)} differs from its source: run python -m k8s.generate")
        return 1 if stale else 0
    for path, text in files().items():
        path.write_text(text)
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
