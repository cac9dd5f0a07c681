"""Videos of noise, which compress badly, so that half of their bytes are half of their frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av import AudioFrame, VideoFrame

FPS = 25
CODECS = {".mp4": ("libx264", "aac"), ".webm": ("libvpx", "libopus"), ".mkv": ("libx264", "flac")}


def write_film(
    path: Path,
    *,
    seconds: float,
    sound_seconds: float = 0,
    begin: float = 0,
    movflags: str = "faststart",
) -> Path:
    """A film of 64 x 64 pixels, with sound if it has a length; the suffix chooses the format."""
    video_codec, audio_codec = CODECS[path.suffix]
    noise = np.random.default_rng(0)
    with av.open(path, "w", options={"movflags": movflags} if path.suffix == ".mp4" else {}) as out:
        video = out.add_stream(video_codec, rate=FPS)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = out.add_stream(audio_codec, rate=48_000) if sound_seconds else None
        for number in range(round(seconds * FPS)):
            pixels = noise.integers(0, 256, (64, 64, 3), np.uint8)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number + round(begin * FPS)
            frame.time_base = Fraction(1, FPS)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio:
            for start in range(0, round(sound_seconds * 48_000), 960):
                samples = noise.normal(0, 0.1, (1, 960)).astype(np.float32)
                sound = AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                sound.pts = start + round(begin * 48_000)
                sound.sample_rate = 48_000
                out.mux(audio.encode(sound))
            out.mux(audio.encode())
    return path
