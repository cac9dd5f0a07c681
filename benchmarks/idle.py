"""What keeps a GPU idle between two chunks of a backlog, part by part.

    python -m benchmarks.idle [--jobs 1] [--chunks 8] [--steps 2] [--thumbnails]

Jobs of the miniature go through a real farm. The parts between two computations do not depend on
the model, but for the bytes that are encoded and stored: those are timed apart, for a chunk at 480
whose pieces are decoded as fast as an H200 does, and the share is reckoned for chunks of 12 and of
24 s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from farm import Farm
from farm.local.supervisor import open_supervisor
from farm.media.aac import first_packet, packets, write_track
from farm.media.encoder import Encoder
from farm.media.fragment import mux_segment
from farm.media.frame import Pixels
from farm.media.video import encode_video
from farm.settings import Settings

APPLICATION = "benchmarks.idle_worker"
SPANS = "spans"
"""The file of lines `name|process|chunk|begin|end` that workers write."""

THUMBNAILS = "IDLE_THUMBNAILS"
"""The variable that makes the workers draw thumbnails."""

EXAMPLES = Path(__file__).parents[1] / "examples"
REQUEST = {
    "prompt": "a friendly person talks",
    "cond_video": str(EXAMPLES / "portrait.png"),
    "cond_audio": {"person1": str(EXAMPLES / "speech.wav")},
    "mode": "streaming",
    "frame_num": 17,
    "motion_frame": 9,
    "sample_text_guide_scale": 1.0,
    "sample_audio_guide_scale": 1.0,
}
FIRST, LATER = 17, 8
"""New frames of a chunk."""

CHUNKS_S = 12.0, 24.0
PIECE_S = 0.93 / 21
"""Of a decode at 480 on an H200."""

SIDE = 640
FULL_FRAMES = 72


COMPUTE = "compute"

TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Span:
    """What a process did from one time to another, in seconds since 1970."""

    name: str
    process: int
    chunk: int
    begin: float
    end: float

    def within(self, begin: float, end: float) -> float:
        """Seconds of it between two times."""
        return max(0.0, min(self.end, end) - max(self.begin, begin))


def read_spans(path: Path) -> list[Span]:
    spans = []
    for line in path.read_text().splitlines():
        name, process, chunk, begin, end = line.split("|")
        spans.append(Span(name, int(process), int(chunk), float(begin), float(end)))
    return spans


def gaps(spans: Sequence[Span]) -> list[dict[str, float]]:
    """Milliseconds from a computation to the next of its process, by part; parts may overlap.

    Not before the first chunk of a job, whose condition is computed then.
    """
    found = []
    for process in {each.process for each in spans}:
        ours = [each for each in spans if each.process == process]
        computed = sorted((each for each in ours if each.name == COMPUTE), key=lambda e: e.begin)
        for before, after in pairwise(computed):
            if after.chunk == 0:
                continue
            parts: dict[str, float] = defaultdict(float)
            for each in ours:
                if each.name != COMPUTE:
                    parts[each.name] += 1000 * each.within(before.end, after.begin)
            found.append({"in all": 1000 * (after.begin - before.end), **parts})
    return found


def run(settings: Settings, *, jobs: int, chunks: int, steps: int) -> list[Span]:
    """What the workers of a farm wrote while they made jobs at once."""
    with open_supervisor(settings, application=APPLICATION) as supervisor:
        farm = Farm(settings=supervisor.settings)
        fields = {"sample_steps": steps, "max_frame_num": FIRST + LATER * (chunks - 1)}
        submitted = [farm.submit(REQUEST, **fields) for _ in range(jobs)]
        for job in submitted:
            job.result(timeout_s=TIMEOUT_S)
    return read_spans(settings.folder / SPANS)


def film() -> Pixels:
    """A chunk's new frames at 480: a portrait that moves a little."""
    with Image.open(EXAMPLES / "portrait.png") as image:
        wide = np.asarray(image.convert("RGB").resize((SIDE + FULL_FRAMES, SIDE)))
    return np.stack([wide[:, shift : shift + SIDE] for shift in range(FULL_FRAMES)])


def at_full_size(folder: Path) -> dict[str, float]:
    """Milliseconds at 480 from the last piece of a decode to the segment."""
    frames = film()
    write_track(EXAMPLES / "speech.wav", folder / "track.aac", frames=FULL_FRAMES)
    audio = list(packets(folder / "track.aac"))[: first_packet(FULL_FRAMES)]
    with Encoder(folder / "frames.mp4") as encoder:
        encoder.begin()
        for first in range(0, FULL_FRAMES, 4):
            time.sleep(PIECE_S)  # as it is decoded
            encoder.write(frames[first : first + 4].copy)
        found = _timed("encode what is left", encoder.finish)
    found |= _timed("mux", lambda: mux_segment(encoder.path, audio, index=0, first=0))
    return found | _timed("encode all at once", lambda: encode_video(folder / "all.mp4", frames))


def _timed(name: str, call: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of a call, and of the processors' time, which a busy machine does not change."""
    began, cpu_began = time.perf_counter(), time.process_time()
    call()
    cpu_ms = 1000 * (time.process_time() - cpu_began)
    return {name: 1000 * (time.perf_counter() - began), f"{name}, CPU": cpu_ms}


def table(found: Sequence[Mapping[str, float]], full: Mapping[str, float]) -> str:
    """The median of each part, and the share of the GPU's time at 480."""
    names = dict.fromkeys(name for each in found for name in each)
    medians = {name: median(each.get(name, 0.0) for each in found) for name in names}
    lines = [f"{len(found)} gaps; milliseconds, median"]
    lines += [f"  {name:34}{value:9.1f}" for name, value in medians.items()]
    lines += ["at 480, milliseconds"]
    lines += [f"  {name:34}{value:9.1f}" for name, value in full.items()]
    farms_own = medians["in all"] - medians["encode"] - medians["mux"]
    idle_ms = farms_own + full["encode what is left"] + full["mux"]
    lines += [
        f"  idle, of a chunk of {chunk_s:g} s {100 * idle_ms / (1000 * chunk_s + idle_ms):9.2f} %"
        for chunk_s in CHUNKS_S
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--thumbnails", action="store_true", help="at 32 x 32 pixels")
    options = parser.parse_args()
    if options.thumbnails:
        os.environ[THUMBNAILS] = "1"
    with tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home:
        settings = Settings(home=Path(home))
        spans = run(settings, jobs=options.jobs, chunks=options.chunks, steps=options.steps)
        print(table(gaps(spans), at_full_size(Path(home))))


if __name__ == "__main__":
    main()
