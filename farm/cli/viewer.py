"""The player or browser of this machine."""

from __future__ import annotations

import subprocess
import sys
from subprocess import DEVNULL

import click

FAILS_WITHIN_S = 5.0
"""xdg-open gives up at once; what runs for longer is the viewer itself."""


def show(url: str) -> bool:
    """Whether something on this machine shows a URL, as far as that is told."""
    if sys.platform != "linux":
        return click.launch(url) == 0
    try:
        command = ["xdg-open", url]
        viewer = subprocess.Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)  # noqa: S603
        return viewer.wait(FAILS_WITHIN_S) == 0
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False
