"""What a long video takes of each process's memory: until its first chunk is made, and from then on.

    python -m benchmarks.hour [--minutes 60] [--large]

One job goes through a real farm with the miniature, at one denoise step; its voice is the example's, said again and
again. It is drawn as a thumbnail, for an hour at the miniature's own size (--large) takes two cores an hour and more.
Only Linux tells such peaks, and forgets them when it is told to.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from math import ceil
from pathlib import Path
from statistics import median

import psutil
import redis

from farm import Farm
from farm.client import Job
from farm.route import Step
from farm.local.supervisor import Supervisor, open_supervisor
from farm.media.audio import decode, write_wav_blocks
from farm.plan import FPS
from farm.settings import Settings

EXAMPLES = Path(__file__).parents[1] / "examples"
REQUEST = {
    "prompt": "a friendly person talks",
    "cond_video": str(EXAMPLES / "portrait.png"),
    "mode": "streaming",
    "sample_steps": 1,
    "sample_text_guide_scale": 1.0,
    "sample_audio_guide_scale": 1.0,
}

LOOK_EVERY_S = 0.5
"""Processes that live for less may be missed; of the others the peak is exact."""

FEW = 10
"""Chunks whose median time is told."""


@dataclass
class Peaks:
    """The most megabytes that each process had at a time, by its name."""

    before: dict[str, float] = field(default_factory=dict)
    """Until the first chunk was made."""
    after: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        lines = [f"{'MB at most':44}{'first chunk':>13}{'afterwards':>12}{'ratio':>8}"]
        for name in sorted(self.before | self.after):
            before, after = self.before.get(name, 0.0), self.after.get(name, 0.0)
            ratio = f"{after / before:8.3f}" if before and after else ""
            lines.append(f"{name:44}{before:13.1f}{after:12.1f}{ratio}")
        return "\n".join(lines)


def watched(supervisor: Supervisor, job: Job) -> Peaks:
    """The peaks while a job runs, once it has ended, or so far if Ctrl-C says that this is enough."""
    peaks, first = Peaks(), Step("generate", 0).id
    seen = peaks.before
    with suppress(KeyboardInterrupt):
        while not job.status().ended:
            _look(supervisor, seen)
            if seen is peaks.before and job.context.registry.steps.committed(job.id, first):
                seen = peaks.after
                _forget(supervisor)
            time.sleep(LOOK_EVERY_S)
    return peaks


def processes(supervisor: Supervisor) -> Iterator[tuple[str, psutil.Process]]:
    """Every process of a farm with its name: this one, which is the beat's, the broker, workers, what those start."""
    ours = psutil.Process()
    workers = {child.pid: f"{queue} worker" for queue, child in supervisor.children.items()}
    yield "farm up, with beat", ours
    for child in ours.children():
        name = workers.get(child.pid) or "broker"
        yield name, child
        for inner in child.children(recursive=True):
            with suppress(psutil.Error):
                yield f"{name}: {inner.name()[:12]}", inner


def _look(supervisor: Supervisor, peaks: dict[str, float]) -> None:
    for name, process in processes(supervisor):
        with suppress(OSError, StopIteration):  # it ended meanwhile
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            kilobytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
            peaks[name] = max(peaks.get(name, 0), int(kilobytes) / 1000)


def _forget(supervisor: Supervisor) -> None:
    """Lets every process's peak begin anew."""
    for _, process in processes(supervisor):
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def kept(supervisor: Supervisor) -> dict[str, float]:
    """Megabytes that the broker keeps, in all and of each kind of the registry's records."""
    with redis.Redis.from_url(supervisor.settings.broker_address, decode_responses=True) as client:
        sizes = {"in all": client.info("memory")["used_memory"] / 1e6}
        for key in client.scan_iter("farm:*"):
            kind = key.split(":")[1]
            sizes[kind] = sizes.get(kind, 0) + (client.memory_usage(key, samples=0) or 0) / 1e6
    return sizes


def voice(folder: Path, *, minutes: float) -> Path:
    """The example's sentences, said again and again for so long or a little longer."""
    samples, rate = decode(EXAMPLES / "speech.wav")
    write_wav_blocks(folder / "voice.wav", repeat(samples, ceil(60 * minutes * rate / samples.shape[1])), rate)
    return folder / "voice.wav"


def chunk_seconds(job: Job) -> list[float]:
    """How long each chunk took its worker."""
    registry = job.context.registry
    chunks = registry.steps.committed(job.id, "embed")["chunks"]
    made = (registry.steps.committed(job.id, Step("generate", chunk).id) for chunk in range(chunks))
    return [sum(output["timings"].values()) / 1000 for output in made if output]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--minutes", type=float, default=60)
    words.add_argument("--large", action="store_true", help="at the miniature's own size")
    given = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home:
        sound = voice(Path(home), minutes=given.minutes)
        os.environ["FARM_MAX_SOUND_BYTES"] = str(sound.stat().st_size)  # workers have it from here; an hour is 150 MB
        application = "tasks" if given.large else "benchmarks.thumbnail"
        with open_supervisor(Settings(home=Path(home), cpu_concurrency=1), application=application) as supervisor:
            report(supervisor, sound, frames=round(60 * given.minutes * FPS))


def report(supervisor: Supervisor, sound: Path, *, frames: int) -> None:
    """Makes the video and prints what it took."""
    job = Farm(settings=supervisor.settings).submit(REQUEST, cond_audio={"person1": str(sound)}, max_frame_num=frames)
    print(watched(supervisor, job).table(), flush=True)
    took = chunk_seconds(job)
    print(f"{len(took)} chunks; seconds: first {median(took[1:FEW]):.2f}, last {median(took[-FEW:]):.2f}")
    print("MB in the broker:", ", ".join(f"{name} {size:.2f}" for name, size in kept(supervisor).items()))
    print("the job:", job.status().state)


if __name__ == "__main__":
    main()
