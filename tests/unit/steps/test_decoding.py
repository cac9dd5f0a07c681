"""Steps decode what came from outside in the sandbox, within the operator's limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.media import decoder, sandbox
from farm.media.sandbox import SandboxLimits
from farm.registry import open_registry
from farm.route import DOWNLOAD
from farm.settings import Settings
from farm.steps.decoding import sandboxed
from farm.store import open_store
from tests.support.steps import step_context


def test_a_step_gives_the_sandbox_its_limits_and_asks_whether_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def note(function, **options):
        given.update(options, function=function)
        return function

    monkeypatch.setattr(sandbox, "sandboxed", note)
    settings = Settings(home=tmp_path, decode_timeout_s=7, decode_memory_mb=900)
    farm = Context(settings, open_store("memory://"), open_registry("memory://"))
    ctx = step_context(farm, DOWNLOAD, scratch=tmp_path)
    sandboxed(ctx, decoder.read_visual)
    assert given == {
        "function": decoder.read_visual,
        "limits": SandboxLimits(seconds=7, memory_bytes=900_000_000),
        "check": ctx.raise_if_stopped,
    }
