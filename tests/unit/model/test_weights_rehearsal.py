"""From an empty machine to loaded weights: pull, convert, check, load, against a hub here.

The hub has the miniature's weights under the names and in the containers of the published files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from farm.model.checkpoints import load_part, load_tokenizer
from farm.model.weights.published import INFINITETALK, WAN, WAV2VEC
from farm.presets import MINIATURE
from tests.unit.model import official
from tests.unit.model.hub import Hub, opened


def files_below(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def hub_files(tmp_path: Path) -> dict[str, dict[str, bytes]]:
    """The published files by repository."""
    folder = tmp_path / "published"
    official.publish(MINIATURE.folder(tmp_path), folder, MINIATURE)
    # The miniature's tokenizer needs neither; the published one has them.
    tokenizer = {"special_tokens_map.json": b"{}", "spiece.model": b"not read"}
    return {
        WAN.name: {
            **files_below(folder / "wan"),
            **{f"google/umt5-xxl/{name}": content for name, content in tokenizer.items()},
        },
        INFINITETALK["single"].name: {
            f"single/{name}": content for name, content in files_below(folder / "single").items()
        },
        WAV2VEC.name: files_below(folder / "wav2vec"),
    }


def run(hub: Hub, home: Path, *arguments: str) -> str:
    """A command of `farm weights` on a machine with nothing but this home."""
    clean = {name: value for name, value in os.environ.items() if name[:3] not in ("HF_", "FAR")}
    mine = {"FARM_HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": hub.url}
    command = [sys.executable, "-m", "tests.unit.model.farm_elsewhere", "weights", *arguments]
    done = subprocess.run(command, env=clean | mine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_empty_machine_loads_what_was_published(
    hub_files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with opened(hub_files) as hub:
        # given a connection that breaks in the middle of a large file
        hub.cuts = [1_000_000]
        # when the weights are pulled, converted and checked
        from_main = [f"--revision={name}=main" for name in hub_files]
        pulled = run(hub, home, "pull", "published", *from_main)
        assert hub.cuts == []
        hub.requests.clear()
        run(hub, home, "convert", "published")
        checked = run(hub, home, "check", "published")
        # then the hub was needed for the first alone
        assert "the download takes 0.0" in pulled
        assert hub.requests == []
    assert "transformer" in checked
    # and every part is loaded as it is in the package
    folder, shipped = home / "weights" / "published", MINIATURE.folder(tmp_path)
    for part in MINIATURE.parts:
        found, expected = (
            load_part(each, part, dtype="float32").state_dict() for each in (folder, shipped)
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    prompt = "a woman talks"
    assert load_tokenizer(folder)(prompt).input_ids == load_tokenizer(shipped)(prompt).input_ids
