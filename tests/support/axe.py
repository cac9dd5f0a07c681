"""axe-core, which finds what keeps people with disabilities from using a page."""

from __future__ import annotations

import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.programs import installed_program

PACKAGE = "axe-core@4.12.1"
SHA256 = "4341a01268b5ecbea826f3c7a7d1d69280a2cab3484c93e1bf4c9554460c6ca0"
SCRIPT = "package/axe.min.js"


def axe_script(folder: Path) -> str:
    """The script, from its package; the test is skipped if npm reaches nothing."""
    command = [installed_program("npm"), "pack", PACKAGE, "--silent"]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if packed.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {packed.stderr[-200:]}")
    archive = folder / packed.stdout.strip()
    assert sha256(archive.read_bytes()).hexdigest() == SHA256
    with tarfile.open(archive) as package:
        script = package.extractfile(SCRIPT)
        assert script is not None
        return script.read().decode()


def violations(page: Page, script: str) -> list[str]:
    """The rules that a page breaks as it is now, each with the elements; no colour is on its way to
    another one.
    """
    page.wait_for_function("() => !document.getAnimations().some(each => each.transitionProperty)")
    page.evaluate(script)
    found: dict[str, Any] = page.evaluate("() => axe.run()")
    return [
        f"{rule['id']}: {', '.join(str(node['target']) for node in rule['nodes'])}"
        for rule in found["violations"]
    ]
