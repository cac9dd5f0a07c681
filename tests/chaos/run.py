"""One scenario, from an empty folder to its line in the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from farm import Job
from farm.media.speech import speak
from tests.chaos.outcome import Outcome, WorkerLogs, digest_of_frames
from tests.chaos.scenarios import Scenario
from tests.chaos.testbed import NO_SERVICES, TIMEOUT_S, Services, Testbed, open_testbed
from tests.support.certificate import write_certificate
from tests.support.disk import small_disk
from tests.support.processes import processes_of
from tests.support.receiver import receiver

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.png"
DISK_MB = 256


def job_fields(folder: Path) -> dict[str, Any]:
    """A job of six chunks, each of about half a second; its frames are always the same."""
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
        "sample_steps": 20,
        "sample_text_guide_scale": 1.0,
        "sample_audio_guide_scale": 1.0,
        "base_seed": 7,
    }


def undisturbed_digest(folder: Path) -> str:
    """The digest of the video of a run without any fault."""
    with open_testbed(folder / "undisturbed", {}) as bed:
        job = bed.farm.submit(job_fields(folder))
        job.wait(TIMEOUT_S)
        return digest_of_frames(job)


def run(
    scenario: Scenario,
    home: Path,
    expected: str,
    *,
    long: bool,
    services: Services = NO_SERVICES,
) -> Outcome:
    """Disturbs a new farm at `home` as the scenario says."""
    fields = job_fields(home.parent)
    with _testbed_of(scenario, home, services) as bed:
        first_fields = {**fields, **scenario.fields}
        if bed.hook:
            first_fields["webhook"] = bed.hook.url
        jobs = [bed.farm.submit(first_fields)]
        jobs += [bed.farm.submit(fields) for _ in range(scenario.jobs[long] - 1)]
        faults = scenario.disturb(bed, jobs, scenario.faults[long])
        lost = _unended(bed, jobs)
        others = jobs[:1] if scenario.error_code else []
        wrong = [job for job in others if _error_code(job) != scenario.error_code]
        finished = [job for job in jobs if job.status().state == "success"]
        different = sum(digest_of_frames(job) != expected for job in finished)
        list(bed.farm.gc())
        garbage = len(list(bed.farm.gc(dry_run=True)))
        logs = WorkerLogs(home)
    unexpected = len(jobs) - len(lost) - len(finished) - len(others)
    return Outcome(
        scenario=scenario.title,
        submitted=len(jobs),
        finished=len(finished),
        ended_otherwise=len(jobs) - len(finished) - len(lost),
        lost=len(lost) + len(wrong) + unexpected,
        different=different,
        committed_twice=logs.committed_twice(),
        redone=logs.redone(),
        recovered_s=logs.recovered_s(faults),
        garbage=garbage,
        left=len(processes_of(home)),
    )


@contextmanager
def _testbed_of(scenario: Scenario, home: Path, services: Services) -> Iterator[Testbed]:
    with ExitStack() as stack:
        environ = dict(scenario.environ)
        hook = None
        if scenario.small_disk:
            stack.enter_context(small_disk(home, megabytes=DISK_MB))
        if scenario.webhook:
            certificate = write_certificate(home.parent / "certificate.pem")
            hook = stack.enter_context(receiver(certificate))
            environ |= hook.environ
        bed = stack.enter_context(open_testbed(home, environ, services))
        bed.hook = hook
        if scenario.two_gpu_workers:
            bed.start_second_gpu_worker()
        yield bed


def _unended(bed: Testbed, jobs: list[Job]) -> list[Job]:
    with suppress(TimeoutError):
        bed.wait_for(lambda: all(job.status().ended for job in jobs))
    return [job for job in jobs if not job.status().ended]


def _error_code(job: Job) -> str | None:
    result = job.status().result
    return result.error.code if result and result.error else None
