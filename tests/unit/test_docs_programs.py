"""The Python of the documents runs, on a farm in this process with a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from farm.steps.generate import unload_pipeline
from tests.support.blocks import ROOT, Block, blocks
from tests.support.tiny_model import use_tiny_preset

ONLY_TYPED = {
    "abc123xyz": "it needs an account",
    "TimeLimits(ttl_s": "a job in this process has no time limits",
    "def result_of": "test_webhooks_page.py runs it",
}
"""What is in a block that does not run, and why; test_types.py checks the types of all blocks."""


def runs(block: Block) -> bool:
    return not any(text in block.text for text in ONLY_TYPED)


PAGES = {
    page: list(each)
    for page, each in groupby(filter(runs, blocks("python")), lambda each: each.page)
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder as a clone is to a program, and settings of a farm."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples").symlink_to(ROOT / "examples")
    with use_tiny_preset(folder / "weights"), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FARM_HOME", str(folder / "home"))
        patch.setenv("FARM_PRESETS", "tiny")
        patch.setenv("FARM_WEIGHTS", str(folder / "weights"))
        patch.setenv("FARM_BROKER_URL", "redis://127.0.0.1:1/0")
        patch.setenv("RUNPOD_API_KEY", "rpa_...")
        yield
    unload_pipeline()


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_run(page: str) -> None:
    names: dict[str, object] = {}
    for block in PAGES[page]:
        text = block.text.replace("Farm()", "Farm('inline://')")
        exec(compile(text, str(block), "exec"), names)
