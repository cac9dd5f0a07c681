"""Whether disks can hold what is about to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from farm.errors import DownloadFailed
from farm.model.weights.space import Demand, check_space


def share_of(folder: Path, share: float, purpose: str, variable: str) -> Demand:
    """A demand of a share of what a folder's disk has free."""
    return Demand(folder, int(shutil.disk_usage(folder).free * share), purpose, variable)


def test_demands_of_one_disk_add_up(tmp_path: Path) -> None:
    first = share_of(tmp_path, 0.6, "the download takes", "HF_HOME")
    second = share_of(tmp_path, 0.6, "the conversion takes", "FARM_WEIGHTS")
    check_space([first])
    with pytest.raises(DownloadFailed) as caught:
        check_space([first, second])
    assert caught.value.message.startswith(f"{tmp_path} has ")
    assert " free; the download takes " in caught.value.message
    assert " and the conversion takes " in caught.value.message
    assert caught.value.message.endswith("set HF_HOME or FARM_WEIGHTS to a folder with more space")


def test_demands_of_two_disks_do_not(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is but one disk")
    first = share_of(tmp_path, 0.9, "the download takes", "HF_HOME")
    second = share_of(other, 0.9, "the conversion takes", "FARM_WEIGHTS")
    check_space(sorted([first, second], key=lambda each: each.free))


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    demand = Demand(tmp_path / "a" / "b", 1, "it takes", "HF_HOME")
    assert demand.existing == tmp_path
    check_space([demand])
