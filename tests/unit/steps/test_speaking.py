"""Speech is synthesised in the sandbox, in one child for all turns of a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.engine.context import Context
from farm.engine.step_context import StepContext
from farm.errors import InvalidInput
from farm.job import TtsAudio
from farm.media import sandbox
from farm.media.sandbox import SandboxLimits
from farm.media.speech import speak_dialogue
from farm.registry import open_registry
from farm.route import DOWNLOAD
from farm.settings import Settings
from farm.steps.speaking import THREADS, store_speech
from farm.store import open_store
from tests.support.jobs import REQUEST
from tests.support.steps import step_context

SANDBOXED = sandbox.sandboxed
"""The real one: the other unit tests run without children."""

DIALOGUE = TtsAudio(text="(s1) one (s2) two (s1) three", human2_voice="en-gb")


@pytest.fixture
def ctx(tmp_path: Path) -> StepContext:
    settings = Settings(home=tmp_path, tts_timeout_s=70, tts_memory_mb=900)
    farm = Context(settings, open_store("memory://"), open_registry("memory://"))
    farm.registry.entries.add("a", REQUEST)
    return step_context(farm, DOWNLOAD, scratch=tmp_path)


def test_all_turns_are_spoken_in_one_child_within_the_operators_limits(
    ctx: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def note(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        calls.append({"function": function, **options})
        return function

    monkeypatch.setattr(sandbox, "sandboxed", note)
    assert len(store_speech(ctx, DIALOGUE)) == 2
    assert calls == [
        {
            "function": speak_dialogue,
            "limits": SandboxLimits(seconds=70, memory_bytes=900_000_000, threads=THREADS),
            "check": ctx.raise_if_stopped,
            "subject": "tts_audio.text: its synthesis",
        }
    ]


@pytest.mark.parametrize("tts", [TtsAudio(text="one"), DIALOGUE], ids=["one voice", "two voices"])
def test_a_child_speaks_as_this_process_does(
    ctx: StepContext, monkeypatch: pytest.MonkeyPatch, tts: TtsAudio
) -> None:
    expected = [ctx.store.get(key) for key in store_speech(ctx, tts)]
    monkeypatch.setattr(sandbox, "sandboxed", SANDBOXED)
    assert [ctx.store.get(key) for key in store_speech(ctx, tts)] == expected


def test_nothing_is_synthesised_in_the_workers_process(
    ctx: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "sandboxed", SANDBOXED)
    monkeypatch.setattr(sandbox, "BOOT", "raise RuntimeError('this is the child')")
    with pytest.raises(InvalidInput, match=r"its synthesis failed .*this is the child"):
        store_speech(ctx, DIALOGUE)
