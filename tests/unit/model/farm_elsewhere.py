"""The `farm` command on another machine: its disks have FREE_BYTES free, it has one more preset.

`published` has the parts of the miniature, and is pulled under the real names and converted.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

from farm.cli import main
from farm.model.weights.published import PUBLISHED
from farm.presets import MINIATURE, PRESETS, Preset

SMALL = replace(MINIATURE, name="published", shipped=False)


def use(preset: Preset) -> None:
    """Makes a preset known, and pulled from where `infinitetalk-480` is."""
    PRESETS.setdefault(preset.name, preset)
    PUBLISHED.setdefault(preset.name, replace(PUBLISHED["infinitetalk-480"], converted_bytes=10**8))


if __name__ == "__main__":
    use(SMALL)
    free = int(os.environ.get("FREE_BYTES", 10**12))
    shutil.disk_usage = lambda _: SimpleNamespace(free=free)
    main()
