"""Kokoro's voices, which a farm has if its workers have announced them."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.client import Farm
from farm.client.farm import INLINE
from farm.errors import InvalidInput
from farm.settings import Settings
from tests.support.jobs import FIELDS

FACE = FIELDS["cond_video"]


def speech(*voices: str) -> dict[str, str]:
    """A text for each speaker, read by voices of Kokoro's."""
    names = {f"human{number}_voice": f"kokoro:{each}" for number, each in enumerate(voices, 1)}
    return {"text": "(s1) yes (s2) no" if len(voices) > 1 else "yes", **names}


def test_a_voice_that_no_worker_has_is_refused_before_a_job_has_an_id(farm):
    farm.context.registry.workers.announce_kokoro([])
    for ask in (farm.submit, farm.estimate):
        with pytest.raises(InvalidInput, match=r"human1_voice: .* this farm has no Kokoro voices"):
            ask(cond_video=FACE, tts_audio=speech("af_heart"))
    assert farm.jobs() == []


def test_the_nearest_voice_that_a_worker_has_is_suggested(farm):
    farm.context.registry.workers.announce_kokoro(["af_heart", "bf_emma"])
    assert farm.submit(cond_video=FACE, tts_audio=speech("af_heart", "bf_emma")).id
    message = r"tts_audio\.human2_voice: got 'kokoro:bf_ema'.*; did you mean kokoro:bf_emma\?"
    with pytest.raises(InvalidInput, match=message):
        farm.submit(cond_video=FACE, tts_audio=speech("af_heart", "bf_ema"))


def test_as_long_as_no_worker_has_announced_any_all_are_accepted(farm):
    assert farm.submit(cond_video=FACE, tts_audio=speech("af_heart")).id


def test_a_job_in_this_process_has_the_voices_of_this_machine(tmp_path: Path):
    inline = Farm(INLINE, settings=Settings(home=tmp_path))
    with pytest.raises(InvalidInput, match="this farm has no Kokoro voices"):
        inline.submit(cond_video=FACE, tts_audio=speech("af_heart"))
