"""The memory of each process for a long video: until its first chunk, and from then on.

    python -m benchmarks.long_video [--minutes 60] [--large]

One job goes through a real farm with the miniature, at one denoise step; its voice is the
example's, repeated. It is drawn as a thumbnail, because an hour at the miniature's own size
(--large) takes two cores more than an hour. Only Linux reports peaks, and can reset them.
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
from farm.engine.advance import chunk_count
from farm.local.supervisor import Supervisor, open_supervisor
from farm.local.worker import APPLICATION
from farm.media.audio import decode, write_wav_blocks
from farm.plan import FPS
from farm.route import Step
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

POLL_INTERVAL_S = 0.5
"""A process that lives for less may be missed; of the others the peak is exact."""

FEW = 10
"""Chunks whose median duration is printed."""


@dataclass
class Peaks:
    """The highest memory of each process, in megabytes, by its name."""

    before: dict[str, float] = field(default_factory=dict)
    """Until the first chunk was committed."""
    after: dict[str, float] = field(default_factory=dict)

    def table(self) -> str:
        lines = [f"{'MB at most':44}{'first chunk':>13}{'afterwards':>12}{'ratio':>8}"]
        for name in sorted(self.before | self.after):
            before = self.before.get(name, 0.0)
            after = self.after.get(name, 0.0)
            ratio = f"{after / before:8.3f}" if before and after else ""
            lines.append(f"{name:44}{before:13.1f}{after:12.1f}{ratio}")
        return "\n".join(lines)


def watch(supervisor: Supervisor, job: Job) -> Peaks:
    """The peaks of a job once it has ended, or so far after Ctrl-C."""
    peaks = Peaks()
    first_chunk = Step("generate", 0).id
    current = peaks.before
    with suppress(KeyboardInterrupt):
        has_ended = False
        while not has_ended:
            has_ended = job.status().ended
            committed = job.context.registry.steps.committed(job.id, first_chunk)
            _record_peaks(supervisor, current)
            if committed and current is peaks.before:
                current = peaks.after
                _reset_peaks(supervisor)
                has_ended = False  # what comes after the first chunk is recorded at least once
            elif not has_ended:
                time.sleep(POLL_INTERVAL_S)
    return peaks


def processes(supervisor: Supervisor) -> Iterator[tuple[str, psutil.Process]]:
    """Every process of a farm with its name.

    These are this one, the broker, the workers, and what they start.
    """
    this_process = psutil.Process()
    workers = {child.pid: f"{queue} worker" for queue, child in supervisor.children.items()}
    yield "farm up", this_process
    for child in this_process.children():
        name = workers.get(child.pid) or "broker"
        yield name, child
        for inner in child.children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                yield f"{name}: {inner.name()[:12]}", inner


def _record_peaks(supervisor: Supervisor, peaks: dict[str, float]) -> None:
    for name, process in processes(supervisor):
        with suppress(OSError, StopIteration):  # it ended meanwhile
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            kilobytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
            peaks[name] = max(peaks.get(name, 0), int(kilobytes) / 1000)


def _reset_peaks(supervisor: Supervisor) -> None:
    for _, process in processes(supervisor):
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def broker_megabytes(supervisor: Supervisor) -> dict[str, float]:
    """Megabytes that the broker stores: in all, and for each kind of the registry's records."""
    url = supervisor.settings.broker_address
    with redis.Redis.from_url(url, decode_responses=True) as client:
        sizes = {"in all": client.info("memory")["used_memory"] / 1e6}
        for key in client.scan_iter("farm:*"):
            kind = key.split(":")[1]
            size = client.memory_usage(key, samples=0) or 0
            sizes[kind] = sizes.get(kind, 0) + size / 1e6
    return sizes


def write_voice(folder: Path, *, minutes: float) -> Path:
    """A file with the example's sentences, repeated for so long or a little longer."""
    samples, rate = decode(EXAMPLES / "speech.wav")
    times = ceil(60 * minutes * rate / samples.shape[1])
    path = folder / "voice.wav"
    write_wav_blocks(path, repeat(samples, times), rate)
    return path


def chunk_seconds(job: Job) -> list[float]:
    """How long its worker took for each committed chunk."""
    steps = job.context.registry.steps
    durations = []
    for chunk in range(chunk_count(job.context, job.id) or 0):
        committed = steps.committed(job.id, Step("generate", chunk).id)
        if committed:
            durations.append(sum(committed.timings.values()) / 1000)
    return durations


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--large", action="store_true", help="at the miniature's own size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home:
        voice = write_voice(Path(home), minutes=options.minutes)
        # Workers read it from here; an hour is 150 MB.
        os.environ["FARM_MAX_AUDIO_BYTES"] = str(voice.stat().st_size)
        os.environ["FARM_MAX_AUDIO_S"] = str(60 * options.minutes + 60)
        application = APPLICATION if options.large else "benchmarks.thumbnail"
        settings = Settings(home=Path(home), cpu_concurrency=1)
        with open_supervisor(settings, application=application) as supervisor:
            report(supervisor, voice, frames=round(60 * options.minutes * FPS))


def report(supervisor: Supervisor, voice: Path, *, frames: int) -> None:
    """Makes the video and prints what it took."""
    farm = Farm(settings=supervisor.settings)
    job = farm.submit(REQUEST, cond_audio={"person1": str(voice)}, max_frame_num=frames)
    print(watch(supervisor, job).table(), flush=True)
    took = chunk_seconds(job)
    first = median(took[1:FEW])
    last = median(took[-FEW:])
    print(f"{len(took)} chunks; seconds: first {first:.2f}, last {last:.2f}")
    sizes = broker_megabytes(supervisor)
    print("MB in the broker:", ", ".join(f"{name} {size:.2f}" for name, size in sizes.items()))
    print("the job:", job.status().state)


if __name__ == "__main__":
    main()
