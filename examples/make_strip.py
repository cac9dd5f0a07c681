"""An image of a result: frames of a video above its waveform. Run as

python -m examples.make_strip video.mp4 strip.jpg
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from farm.media.audio import decode

FRAMES = 8
HEIGHT = 160
WAVE_HEIGHT = 56
MARGIN = 4
"""In pixels, the last above and below the waveform."""
PAPER = "#ffffff"
INK = "#d9743f"


def strip(video: Path) -> Image.Image:
    """FRAMES frames spread evenly over the video, each above its part of the waveform."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    middles = [(2 * column + 1) * len(frames) // (2 * FRAMES) for column in range(FRAMES)]
    chosen = [frames[index] for index in middles]
    width = round(HEIGHT * chosen[0].width / chosen[0].height)
    sheet = Image.new("RGB", (width * FRAMES, HEIGHT + WAVE_HEIGHT), PAPER)
    for column, frame in enumerate(chosen):
        thumbnail = frame.resize((width, HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (column * width, 0))
    _draw_wave(sheet, decode(video)[0].mean(axis=0))
    return sheet


def _draw_wave(sheet: Image.Image, samples: np.ndarray) -> None:
    draw = ImageDraw.Draw(sheet)
    middle = HEIGHT + WAVE_HEIGHT // 2
    peaks = [np.abs(part).max() for part in np.array_split(samples, sheet.width)]
    heights = np.array(peaks) / max(peaks) * (WAVE_HEIGHT / 2 - MARGIN)
    for x, peak in enumerate(heights):
        draw.line((x, middle - peak, x, middle + peak), fill=INK)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    strip(options.video).save(options.picture, quality=85)
