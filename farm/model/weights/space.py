"""Whether disks can hold what is about to be written to them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from farm.errors import DownloadFailed


@dataclass(frozen=True)
class Demand:
    """Bytes that a folder has to take; the folder need not exist."""

    folder: Path
    size: int
    purpose: str
    """As in `the download takes`."""
    variable: str
    """The setting that names another folder."""

    @property
    def existing(self) -> Path:
        """The folder, or the nearest one above it that exists."""
        return next(each for each in (self.folder, *self.folder.parents) if each.is_dir())

    @property
    def free(self) -> int:
        """The bytes that its disk can take."""
        return shutil.disk_usage(self.existing).free


def check_space(demands: Iterable[Demand]) -> None:
    """Refuses demands that a disk cannot meet; those of several folders on one disk add up."""
    by_disk: dict[int, list[Demand]] = {}
    for each in demands:
        by_disk.setdefault(each.existing.stat().st_dev, []).append(each)
    for together in by_disk.values():
        first = together[0]
        if first.free < sum(each.size for each in together):
            takes = " and ".join(f"{each.purpose} {gigabytes(each.size)}" for each in together)
            variables = " or ".join(each.variable for each in together)
            raise DownloadFailed(
                f"{first.folder} has {gigabytes(first.free)} free; {takes}; "
                f"set {variables} to a folder with more space",
                retryable=False,
            )


def gigabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB"
