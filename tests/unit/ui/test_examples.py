"""The examples of the page are there wherever the page is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from farm.ui import form
from farm.ui.examples import EXAMPLES, MEDIA, example
from tests.conftest import EXAMPLES as FOLDER

PACKAGE = Path(form.__file__).parents[1]


def test_a_wheel_takes_every_file_of_the_page():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["farm"]
    taken = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    files = {file for file in (PACKAGE / "ui").rglob("*") if file.is_file()}
    assert {file for file in files if file.suffix not in (".py", ".pyc")} - taken == set()


def test_they_are_small_and_those_of_the_documents():
    media = list(MEDIA.iterdir())
    assert sum(file.stat().st_size for file in media) < 1_000_000
    assert {(FOLDER / file.name).resolve() for file in media} == set(media)


@pytest.mark.parametrize("label", EXAMPLES)
def test_the_files_of_an_example_become_uploads(label, tmp_path):
    values = example(label, tmp_path)
    files = [values[name] for name in form.FILES if values[name]]
    assert files
    for file in files:
        assert Path(file).read_bytes() == (MEDIA / Path(file).name).read_bytes()
        assert Path(file).is_relative_to(tmp_path)
