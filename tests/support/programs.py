"""Programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def program(*names: str) -> str:
    """The path of the first that is installed; without any the test is skipped, or fails if this is CI."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"none of {', '.join(names)} is installed")
    return found
