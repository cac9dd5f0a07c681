"""The documents agree with the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from farm.errors import FarmError
from farm.job import STAGES, JobRequest
from farm.metrics import METRICS
from farm.route import STEP_SPECS
from farm.settings import BUCKET, UNPREFIXED, Settings
from tests.support.blocks import PAGES, ROOT, Block, blocks
from tests.support.queries import alerts


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_tree_of_the_architecture_is_the_tree_on_disk() -> None:
    block = read("docs/architecture.md").split("## What is where")[1].split("```")[1]
    listed = re.findall(r"^(  )?([\w.-]+/?) ", block, flags=re.MULTILINE)
    paths = {("farm/" if indent else "") + name.rstrip("/") for indent, name in listed}

    missing = [path for path in paths if not (ROOT / path).exists()]
    modules = {
        f"farm/{path.name}" for path in (ROOT / "farm").iterdir() if not path.name.startswith("__")
    }

    assert missing == []
    assert modules - paths == set()


def contracts() -> list[dict[str, Any]]:
    return list(tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"])


def test_the_reference_pages_are_generated_from_the_code() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("settings", [f"FARM_{name.upper()}" for name in Settings.model_fields]),
        ("metrics", [metric.name for metric in METRICS]),
        ("errors", [kind.code for kind in FarmError.__subclasses__()]),
        ("job", [*JobRequest.model_fields, *STAGES]),
    ],
)
def test_the_reference_lists_every_name(page: str, names: list[str]) -> None:
    text = read(f"docs/reference/{page}.md")
    listed = set(re.findall(r"^\| `?(\w+)`? \|", text, flags=re.MULTILINE))

    assert set(names) - listed == set()


def test_the_settings_name_the_variables_without_the_prefix() -> None:
    rows = re.findall(
        r"^\| FARM_\w+ \|.*; also (\w+) \|$", read("docs/reference/settings.md"), re.M
    )
    assert set(rows) == {*UNPREFIXED, BUCKET}


def test_the_guide_lists_every_limit_that_is_a_setting() -> None:
    limits = read("docs/guide.md").split("## Limits")[1].split("\n## ")[0]
    names = [f"FARM_{name.upper()}" for name in Settings.model_fields if name.startswith("max_")]

    assert [name for name in names if name not in limits] == ["FARM_MAX_ATTEMPTS"]


def test_the_runbook_has_advice_for_each_alert() -> None:
    runbook = read("docs/operations/runbook.md")
    advised = re.findall(r"^\| (Farm\w+) \| .{40,} \|$", runbook, flags=re.MULTILINE)

    assert advised == [alert["alert"] for alert in alerts()]


def test_the_architecture_draws_the_import_floors() -> None:
    drawn = read("docs/architecture.md").split("## Import floors")[1].split("```\n")[1]
    (layers,) = (each["layers"] for each in contracts() if each["type"] == "layers")

    assert drawn.splitlines() == layers


@pytest.mark.parametrize("kind", STEP_SPECS)
def test_the_architecture_describes_every_step(kind: str) -> None:
    assert re.search(rf"^\| `?{kind}`?\b", read("docs/architecture.md"), flags=re.MULTILINE)


def test_ci_runs_the_test_command_of_contributors() -> None:
    assert "make test " in read("CONTRIBUTING.md")
    assert "make test\n" in read(".ci/run")


def test_links_between_documents_resolve() -> None:
    for document in PAGES:
        for target, _, heading in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", document.read_text()):
            page = document.parent / target if target else document
            assert page.exists(), f"{document.name} links to {target}"
            assert not heading or heading in headings(page), (
                f"{document.name} links to {target}#{heading}"
            )


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}
ELSEWHERE = {
    "": "output, drawings and trees",
    "bash": "test_docs_commands.py runs it",
    "console": "test_docs_commands.py compares it",
    "html": "of a reader's own page",
    "mermaid": "a drawing",
    "nginx": "of a proxy in front of the farm",
    "python": "test_docs_programs.py runs it, test_types.py checks its types",
    "sh": "test_docs_commands.py runs it",
}
"""Languages of code blocks that are not parsed here, each with the reason."""


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_code_block_is_checked(block: Block) -> None:
    if block.language not in ELSEWHERE:
        PARSERS[block.language](block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_belongs_to_a_block(page: Path) -> None:
    found = [block for block in blocks() if ROOT / block.page == page]
    assert len(re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.M)) == 2 * len(found)


def test_no_code_is_in_a_block_without_a_language() -> None:
    code = re.compile(r"^(\$ |farm \w|make \w|pip |import |from \w+ import)", re.M)
    assert [str(block) for block in blocks("") if code.search(block.text)] == []


def test_code_paths_in_the_documents_exist() -> None:
    for document in PAGES:
        if document.name == "lab-log.md":  # a history names files of its day
            continue
        for path in re.findall(
            r"`((?:farm|tasks|tests|docs|benchmarks|docker|examples|k8s|miniature|requirements)/[\w/.-]+)`",
            document.read_text(),
        ):
            known = (ROOT / path).exists() or "NAME" in path
            assert known, f"{document.name} names {path}"


def test_every_promise_of_the_security_page_has_its_tests() -> None:
    lines = read("docs/security.md").splitlines()
    rows = [
        line
        for line, after in pairwise(lines)
        if line.startswith("| ") and not after.startswith("|--")
    ]
    assert len(rows) > 60
    for row in rows:
        path = ""
        tests = re.findall(r"`(tests/[\w/.]+)?::(\w+)`", row)
        assert tests, row
        for named, test in tests:
            path = named or path
            assert f"def {test}(" in read(path), f"{path} has no {test}"
