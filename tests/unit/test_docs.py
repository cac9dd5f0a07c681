"""What the documents say is what the code has."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from farm.cli import EXIT_STATUS
from farm.errors import FarmError
from farm.job import NOT_YET, STAGES, JobRequest
from farm.metrics import METRICS, Metric
from farm.settings import Settings
from tests.support.queries import alerts

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_readme_tree_is_the_tree_on_disk() -> None:
    block = read("README.md").split("## What is where")[1].split("```")[1]
    listed = re.findall(r"^(  )?([\w.-]+/?) ", block, flags=re.MULTILINE)
    paths = {("farm/" if indent else "") + name.rstrip("/") for indent, name in listed}

    missing = [path for path in paths if not (ROOT / path).exists()]
    rooms = {f"farm/{path.name}" for path in (ROOT / "farm").iterdir() if not path.name.startswith("__")}

    assert missing == []
    assert rooms - paths == set()


def contracts() -> list[dict[str, Any]]:
    return list(tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"])


@pytest.mark.parametrize("field", JobRequest.model_fields)
def test_the_api_lists_every_field_with_its_default(field: str) -> None:
    info = JobRequest.model_fields[field]
    default = info.default if not isinstance(info.default, tuple) else list(info.default)
    shown = "required" if info.is_required() else json.dumps(default)
    refused = " *Refused for now.*" if field in NOT_YET else ""

    assert f"| {field} | {shown} | {info.description}{refused} |" in read("docs/api.md")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_operations_lists_every_setting_with_its_default(name: str) -> None:
    info = Settings.model_fields[name]
    default = "" if info.default in (None, ()) else info.default
    if isinstance(default, tuple):
        default = ", ".join(map(str, default))

    assert f"| FARM_{name.upper()} | {default} | {info.description} |" in read("docs/operations.md")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_operations_lists_every_number(metric: Metric) -> None:
    labels = ", ".join(metric.labels)

    assert f"| {metric.name} | {metric.kind} | {metric.source} | {labels} | {metric.help} |" in read(
        "docs/operations.md"
    )


def test_operations_says_what_to_do_about_each_alert() -> None:
    runbook = read("docs/operations.md").split("### What to do when it rings")[1].split("\n## ")[0]
    told = re.findall(r"^\| (Farm\w+) \| .{40,} \|$", runbook, flags=re.MULTILINE)

    assert told == [alert["alert"] for alert in alerts()]


@pytest.mark.parametrize("kind", FarmError.__subclasses__())
def test_the_api_lists_every_error(kind: type[FarmError]) -> None:
    assert f"| {kind.code} |" in read("docs/api.md")


@pytest.mark.parametrize("stage", STAGES)
def test_the_api_lists_every_stage(stage: str) -> None:
    assert f"| {stage} | {STAGES[stage]} |" in read("docs/api.md")


def test_the_api_lists_every_exit_status_and_no_other() -> None:
    table = read("docs/api.md").split("| exit status |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| (\d+) \| (.+) \|$", table, flags=re.MULTILINE)
    assert {int(status): said for status, said in listed} == EXIT_STATUS


def test_the_architecture_draws_who_may_import_whom() -> None:
    drawn = read("docs/architecture.md").split("## Who may import whom")[1].split("```\n")[1]
    (layers,) = (each["layers"] for each in contracts() if each["type"] == "layers")

    assert drawn.splitlines() == layers


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test " in read("README.md")
    assert "make test\n" in read(".ci/run")


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target, _, heading in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", document.read_text()):
            page = document.parent / target if target else document
            assert page.exists(), f"{document.name} points to {target}"
            assert not heading or heading in headings(page), f"{document.name} points to {target}#{heading}"


def headings(page: Path) -> set[str]:
    """As links name them."""
    return {
        re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-")
        for each in re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    }
