"""What a type checker says about a program that uses the package."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest

import farm
from docs import job_fields
from tests.support.blocks import blocks

ROOT = Path(__file__).parents[2]

PROGRAM = f"""
from pathlib import Path
from typing import assert_type

import farm
from farm import Barn  # type: ignore[attr-defined]
from farm import {", ".join(farm.__all__)}

assert_type(farm.__version__, str)
here = Farm("inline://")
assert_type(here, Farm)
assert_type(here.as_caller("anna"), Farm)

with Path("speech.wav").open("rb") as voice, Path("notes.txt").open() as text:
    job = here.submit(
        prompt="a woman talks",
        cond_video=Path("face.png"),
        cond_audio={{"person1": voice, "person2": b"RIFF"}},
        audio_type="add",
        bbox=[1, 2, 30, 40],
    )
    here.submit(cond_video=text)  # type: ignore[arg-type]
assert_type(job, Job)
here.submit({{"prompt": "a woman talks"}}, sample_steps=4)
assert_type(here.estimate(prompt="a woman talks", max_cost=2), Estimate)
here.submit(promt="a woman talks")  # type: ignore[call-arg]
here.submit(sample_steps="4")  # type: ignore[arg-type]
here.submit(mode="stream")  # type: ignore[arg-type]
here.submit(tts_audio={{"txt": "hello"}})  # type: ignore[arg-type]
here.jobs(state="done")  # type: ignore[arg-type]

assert_type(job.status(), JobStatus)
assert_type([each for each in job.events()], list[Event])
assert_type(job.result(), Result)
assert_type(job.save("talking.mp4"), Path)


async def follow() -> None:
    job = await here.asubmit(prompt="a woman talks")
    assert_type(job, Job)
    assert_type(await job, Result)
    assert_type(await job.aresult(timeout_s=60), Result)
"""
"""Where a mistake is expected an unused `ignore` is one."""

PROGRAMS = {"program": PROGRAM}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of what mypy knows about other packages, which both installations share."""
    return tmp_path_factory.mktemp("mypy")


BRIEF = '# mypy: disable-error-code="no-redef, type-arg, no-any-return"\n'
DOCUMENTED = {
    f"page_{Path(page).stem}": BRIEF + "\n".join(block.text for block in each)
    for page, each in groupby(blocks("python"), lambda each: each.page)
}
"""The program of each page: its blocks in their order, as brief as documents are."""


def complaints(
    python: str | Path, folder: Path, cache: Path, programs: Mapping[str, str] = PROGRAMS
) -> str:
    """What mypy says about programs in the environment of an interpreter."""
    for name, program in programs.items():
        (folder / f"{name}.py").write_text(program)
    options = ["--strict", "--no-error-summary", f"--cache-dir={cache}"]
    command = [sys.executable, "-m", "mypy", *options, f"--python-executable={python}"]
    command += [f"{name}.py" for name in programs]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return checked.stdout + checked.stderr


def wheel(folder: Path) -> Path:
    """The wheel of this package."""
    copytree(ROOT / "farm", folder / "farm", ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    program = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_editable_install_has_types(tmp_path: Path, cache: Path):
    assert complaints(sys.executable, tmp_path, cache) == ""


def test_the_programs_of_the_documents_have_no_mistakes(tmp_path: Path, cache: Path):
    assert complaints(sys.executable, tmp_path, cache, DOCUMENTED) == ""


def test_the_wheel_has_types(tmp_path: Path, cache: Path):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    (tmp_path / "source").mkdir()
    ZipFile(wheel(tmp_path / "source")).extractall(packages)
    assert complaints(tmp_path / "venv/bin/python", tmp_path, cache) == ""


def test_the_types_of_the_fields_are_those_of_the_contract():
    assert job_fields.MODULE.read_text() == job_fields.module()
