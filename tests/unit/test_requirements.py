"""The locked requirements, and what installs them."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.check import conflicts, overrides
from requirements.lock import APART, CUDA, FORMATS, TORCH_CPU, cpu_builds
from tests.support.requirements import FILES, ROOT, locked

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = {
    "base": PROJECT["project"]["dependencies"],
    **PROJECT["project"]["optional-dependencies"],
    **PROJECT["dependency-groups"],
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_requirement_has_one_version_and_hashes(file: Path) -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert file.read_text().splitlines()[1:4] == ["--require-hashes", *FORMATS]
    for package, (requirement, hashes) in locked(file.stem).items():
        assert re.fullmatch("==[^,*]+", str(requirement.specifier)), requirement
        assert hashes > 0, requirement
        if file.stem in APART:
            continue
        tested = f"{package}{requirement.specifier}".removesuffix("+cpu")
        assert re.search(rf"^{re.escape(tested)}\s", constraints, re.M), requirement


@pytest.mark.parametrize("name", EXTRAS)
def test_the_lock_of_each_extra_has_its_dependencies(name: str) -> None:
    found = locked(name) | locked("torch-cuda")
    for text in EXTRAS[name]:
        wanted = Requirement(text)
        pin, _ = found[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(str(pin.specifier)[2:]), f"{wanted} is locked as {pin}"


def test_only_the_files_of_torch_have_torch_and_cuda() -> None:
    for file in FILES:
        packages = [each for each in locked(file.stem) if each == "torch" or CUDA.match(each)]
        expected = {"torch-cpu": ["torch"], "torch-cuda": list(locked("torch-cuda"))}
        assert packages == expected.get(file.stem, [])


def test_the_cpu_builds_are_those_of_linux_for_each_python() -> None:
    requirement, hashes = locked("torch-cpu")["torch"]
    version = str(requirement.specifier)[2:]
    assert {line.split()[1] for line in TORCH_CPU.read_text().splitlines()} == {
        f"torch-{version}-cp{python}-cp{python}-manylinux_2_28_{machine}.whl"
        for python in (311, 312, 313)
        for machine in ("x86_64", "aarch64")
    }
    assert hashes == 6


def test_a_version_of_torch_without_known_cpu_builds_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"has no build of torch==9\.9\.9\+cpu"):
        cpu_builds("torch==9.9.9 \\\n    --hash=sha256:00\n")


def test_only_the_project_itself_is_installed_without_hashes() -> None:
    text = "".join((ROOT / name).read_text() for name in ("Makefile", ".ci/run"))
    installing = re.findall(r"[^#\n]*(?:pip install|PIP_INSTALL\))[^#\n]*", text)
    assert [line.strip() for line in installing if "--require-hashes" not in line] == [
        "PIP_INSTALL = pip install --no-deps --no-build-isolation",
        "$(BIN)/$(PIP_INSTALL) --quiet -e .",
    ]


def test_the_installed_runpod_is_the_one_that_is_named() -> None:
    """Resolved beside gradio, an open requirement silently takes 1.10, which loses jobs."""
    (pin,) = EXTRAS["runpod"]
    assert version("runpod") == pin.removeprefix("runpod==") == "1.12.0"
    assert str(locked("runpod")["runpod"][0]) == pin


def test_only_what_is_overridden_may_be_unmet() -> None:
    report = (
        "runpod 1.12.0 requires boto3, which is not installed.\n"
        "runpod 1.12.0 has requirement tomlkit>=0.15.1, but you have tomlkit 0.14.0.\n"
        "runpod 1.12.0 requires paramiko, which is not installed.\n"
        "gradio 6.31.0 has requirement tomlkit<0.15, but you have tomlkit 0.16.\n"
    )
    assert conflicts(report, overrides()) == report.splitlines()[2:]
    assert conflicts("No broken requirements found.\n", overrides()) == []
