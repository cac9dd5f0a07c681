"""One scenario from an empty folder to its line in the table."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from farm import Job
from farm.media.speech import speak
from tests.chaos.scenarios import Scenario
from tests.chaos.stand import PATIENCE_S, Stand, left_behind, stand
from tests.chaos.tally import Logbook, Tally, pictures
from tests.support.certificate import self_signed
from tests.support.disk import small_disk
from tests.support.receiver import receiver
from tests.support.swift import Swift

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.png"


def request(folder: Path) -> dict[str, Any]:
    """A job of six chunks, each of about a second, always with the same pictures."""
    voice = folder / "voice.wav"
    if not voice.exists():
        speak("one two three four five six seven eight nine", voice)
    return {
        "prompt": "a friendly person talks",
        "cond_video": str(PORTRAIT),
        "cond_audio": {"person1": str(voice)},
        "mode": "streaming",
        "frame_num": 21,
        "motion_frame": 5,
        "max_frame_num": 101,
        "sample_steps": 3,
        "sample_text_guide_scale": 1.0,
        "sample_audio_guide_scale": 1.0,
        "base_seed": 7,
    }


def reference(folder: Path) -> str:
    """The pictures of a run in which nothing happens."""
    with stand(folder / "reference", {}) as up:
        job = up.farm.submit(request(folder))
        job.wait(PATIENCE_S)
        return pictures(job)


def run(scenario: Scenario, home: Path, expected: str, *, long: bool, service: Swift | None = None) -> Tally:
    """Breaks a new farm at `home` as the scenario says; its goods lie in a folder, or with a service of S3."""
    given = request(home.parent)
    disk = small_disk(home, megabytes=256) if scenario.small_disk else nullcontext()
    called = receiver(self_signed(home.parent / "certificate.pem")) if scenario.webhook else nullcontext()
    with disk, called as hook, stand(home, {**scenario.environ, **(hook.environ if hook else {})}, service) as up:
        up.hook = hook
        if scenario.two_gpu_workers:
            up.second_gpu_worker(listens=False)
        told = {"webhook": hook.url} if hook else {}
        first = [up.farm.submit({**given, **scenario.fields, **told})]
        jobs = first + [up.farm.submit(given) for _ in range(scenario.jobs[long] - 1)]
        faults = scenario.happens(up, jobs, scenario.faults[long])
        lost = _unended(up, jobs)
        others = first if scenario.ends else []
        wrong = [job for job in others if _code(job) != scenario.ends]
        finished = [job for job in jobs if job.status().state == "success"]
        different = sum(pictures(job) != expected for job in finished)
        list(up.farm.gc())
        orphans = len(list(up.farm.gc(dry_run=True)))
        book = Logbook(home)
    return Tally(
        scenario=scenario.title,
        submitted=len(jobs),
        finished=len(finished),
        ended_otherwise=len(jobs) - len(finished) - len(lost),
        lost=len(lost) + len(wrong) + (len(jobs) - len(lost) - len(finished) - len(others)),
        different=different,
        made_twice=book.made_twice(),
        redone=book.redone(),
        recovered_s=book.recovered_s(faults),
        orphans=orphans,
        left=left_behind(home),
    )


def _unended(up: Stand, jobs: list[Job]) -> list[Job]:
    with suppress(TimeoutError):
        up.until(lambda: all(job.status().ended for job in jobs))
    return [job for job in jobs if not job.status().ended]


def _code(job: Job) -> str | None:
    result = job.status().result
    return result.error.code if result and result.error else None
