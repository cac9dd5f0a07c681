"""A picture of a result: frames of a video over the waveform of its sound. Run as

python -m examples.make_strip video.mp4 strip.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from farm.media.audio import decode

FRAMES, HEIGHT, WAVE_HEIGHT = 8, 160, 56
PAPER, INK = "#ffffff", "#d9743f"


def strip(video: Path) -> Image.Image:
    """FRAMES pictures spread evenly over the video, each over its moment of the sound."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    chosen = [frames[(2 * place + 1) * len(frames) // (2 * FRAMES)] for place in range(FRAMES)]
    width = round(HEIGHT * chosen[0].width / chosen[0].height)
    sheet = Image.new("RGB", (width * FRAMES, HEIGHT + WAVE_HEIGHT), PAPER)
    for place, frame in enumerate(chosen):
        sheet.paste(frame.resize((width, HEIGHT), Image.Resampling.LANCZOS), (place * width, 0))
    _draw_wave(sheet, decode(video)[0].mean(axis=0))
    return sheet


def _draw_wave(sheet: Image.Image, samples: np.ndarray) -> None:
    draw, middle = ImageDraw.Draw(sheet), HEIGHT + WAVE_HEIGHT // 2
    peaks = [np.abs(part).max() for part in np.array_split(samples, sheet.width)]
    for x, peak in enumerate(np.array(peaks) / max(peaks) * (WAVE_HEIGHT / 2 - 4)):
        draw.line((x, middle - peak, x, middle + peak), fill=INK)


if __name__ == "__main__":
    strip(Path(sys.argv[1])).save(sys.argv[2], quality=85)
