"""Programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def installed_program(*names: str) -> str:
    """The path of the first of these programs that is installed.

    Without any of them the test is skipped, or fails in CI.
    """
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    message = f"none of {', '.join(names)} is installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
