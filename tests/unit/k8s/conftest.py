"""The rendered overlays, of which each test gets a copy that it may change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import pytest

from k8s.checks.manifests import OVERLAYS, Manifest, render

Render = Callable[[str], list[Manifest]]


@cache
def _rendered(overlay: str) -> list[Manifest]:
    return render(OVERLAYS / overlay)


@pytest.fixture
def rendered() -> Render:
    return lambda overlay: deepcopy(_rendered(overlay))
