"""Station `embed`: what the model hears of the voice, and the plan of chunks that follows from its length."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farm.errors import InvalidInput
from farm.media.audio import speech
from farm.model.presets import preset
from farm.plan import FPS, SPEECH_RATE, Plan, frames_of
from farm.steps.features import remembered
from farm.steps.route import Step
from farm.steps.work import Work

if TYPE_CHECKING:
    from farm.model.audio import AudioEncoder


def embed(work: Work) -> dict[str, Any]:
    """`embeddings` (one store key for each speaker), `rows` of each, `frames` and `chunks` of the video, `warnings`."""
    work.report("embeddings_started")
    with work.timed("embedding"):
        samples = speech(work.fetch(work.goods(Step("download"))["sound"], "sound"))
        heard = frames_of(len(samples))
        if heard < 1:
            raise InvalidInput(
                f"cond_audio.person1: it lasts {len(samples) / SPEECH_RATE:.3f} s; allowed: 0.04 s or more"
            )
        frames = min(heard, longest(work))
        padded = _padded(samples, work.request.frame_num)
        key = _embedding(work, padded)
    work.report("embeddings_ok", frames=frames, seconds=round(frames / FPS, 2))
    chunks = Plan(frames, work.request.frame_num, work.request.motion_frame).chunks
    facts = {"frames": frames, "rows": frames_of(len(padded)), "chunks": chunks}
    return {"embeddings": [key], **facts, "warnings": _warnings(work, heard, frames)}


def longest(work: Work) -> int:
    """The most frames that the request allows."""
    return work.request.frame_num if work.request.mode == "clip" else work.request.max_frame_num


def _padded(samples: NDArray[np.float32], frame_num: int) -> NDArray[np.float32]:
    """Speech shorter than a chunk is followed by silence; the video is cut to the speech."""
    missing = -(-frame_num * SPEECH_RATE // FPS) - len(samples)
    return np.pad(samples, (0, max(0, missing)))


def _embedding(work: Work, samples: NDArray[np.float32]) -> str:
    from farm.model.checkpoints import ready

    folder = ready(preset(work.settings.preset), work.settings.weights_folder)
    make = lambda: _encoder(folder).embed(samples)  # noqa: E731
    return remembered(work, "speech", folder / "audio_encoder", samples.tobytes(), make)


@cache
def _encoder(folder: Path) -> AudioEncoder:
    from farm.model.audio import load_audio_encoder

    return load_audio_encoder(folder)


def _warnings(work: Work, heard: int, frames: int) -> list[str]:
    if frames == heard:
        return []
    cap = "mode streaming makes all of it" if work.request.mode == "clip" else "max_frame_num is the cap"
    return [f"the voice lasts {heard / FPS:.2f} s, the video ends after {frames / FPS:.2f} s ({cap})"]
