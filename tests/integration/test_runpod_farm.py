"""`Farm("runpod://ENDPOINT_ID")` on a Runpod whose workers are the real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import Farm, Job
from farm.errors import Cancelled, InvalidInput, OutOfMemory
from farm.net.runpod import RunpodUnreachable
from farm.settings import Settings
from tests.support.jobs import FIELDS, TWO_CHUNKS
from tests.support.rented_farm import variables
from tests.support.runpod import KEY, FakeRunpod, Fault, fake_runpod, start_worker
from tests.support.runpod.contract_handler import VIDEO
from tests.support.runpod.endpoint import Rules
from tests.support.swift import Swift
from tests.support.videos import decoded_frames
from tests.support.waiting import wait_for_stage

HANDLER = ["-m", "tests.support.runpod.contract_handler"]
OURS = ["-m", "farm.runpod.handler"]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeRunpod]:
    log = tmp_path_factory.mktemp("worker") / "log"
    with fake_runpod(Rules(poll_s=1)) as fake, start_worker(fake, HANDLER, log):
        yield fake


def farm_at(fake: FakeRunpod, home: Path) -> Farm:
    settings = Settings(home=home, runpod_api_key=KEY, runpod_url=fake.url)
    return Farm("runpod://echo", settings=settings)


@pytest.fixture
def farm(fake: FakeRunpod, tmp_path: Path) -> Farm:
    return farm_at(fake, tmp_path / "home")


def submit(farm: Farm, prompt: str) -> Job:
    return farm.submit({**FIELDS, "prompt": prompt})


def test_a_video_is_made(farm: Farm, tmp_path: Path) -> None:
    job = submit(farm, "a woman talks")

    assert job.wait().state == "success"
    assert job.save(tmp_path / "own.mp4").read_bytes() == VIDEO


def test_an_error_of_the_handler_is_raised(farm: Farm) -> None:
    with pytest.raises(OutOfMemory, match="it needs 80 GB"):
        submit(farm, "fail").result()


def test_progress_is_seen_and_a_running_job_is_cancelled(farm: Farm) -> None:
    job = submit(farm, "wait")
    wait_for_stage(job, "downloads_started")

    assert job.status().pct == 3
    assert job.cancel()
    with pytest.raises(Cancelled):
        job.result()


def test_a_job_is_followed_from_another_machine(
    farm: Farm, fake: FakeRunpod, tmp_path: Path
) -> None:
    job = submit(farm, "a woman talks")
    elsewhere = farm_at(fake, tmp_path / "elsewhere")

    assert elsewhere.job(job.id).wait().state == "success"
    assert elsewhere.jobs() == []


def test_a_result_that_runpod_has_forgotten_is_known_where_it_was_submitted(
    farm: Farm, fake: FakeRunpod, tmp_path: Path
) -> None:
    job = submit(farm, "a woman talks")
    job.wait()
    (remote,) = [each for each in fake.jobs() if each.id == job.id]
    fake.forget(remote)

    again = farm_at(fake, tmp_path / "home")
    assert again.job(job.id).status().state == "success"
    with pytest.raises(InvalidInput, match="there is no such job"):
        farm_at(fake, tmp_path / "elsewhere").job(job.id)


@pytest.mark.parametrize("status", [0, 500])
def test_a_job_whose_acceptance_was_not_confirmed_exists_once(
    farm: Farm, fake: FakeRunpod, status: int
) -> None:
    before = len(fake.jobs())
    fake.faults.add("run", Fault(status, takes_effect=True))
    with pytest.raises(RunpodUnreachable, match="may have been accepted") as caught:
        submit(farm, "a woman talks")

    assert (caught.value.retryable, len(fake.jobs())) == (False, before + 1)


def test_a_submission_is_repeated_after_429(farm: Farm, fake: FakeRunpod) -> None:
    before = len(fake.jobs())
    fake.faults.add("run", Fault(429, headers={"Retry-After": "1"}))
    submit(farm, "a woman talks")

    assert len(fake.jobs()) == before + 1


def test_a_job_is_followed_while_runpod_is_away_for_a_moment(farm: Farm, fake: FakeRunpod) -> None:
    job = submit(farm, "a woman talks")
    with fake.down():
        pass
    fake.faults.add("status", Fault(503, times=2))

    assert job.wait().state == "success"
    assert fake.faults.next("status", job.id) is None


def test_our_handler_makes_a_video_of_files_from_here(
    swift: Swift, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    stored = swift.settings().model_dump(exclude_unset=True)
    environ = {**variables(stored), "FARM_HOME": str(tmp_path / "pod")}
    log = tmp_path / "log"
    with fake_runpod() as fake, start_worker(fake, OURS, log, environ=environ):
        given = {"runpod_api_key": KEY, "runpod_url": fake.url, "fetch_allow": "127.0.0.0/8"}
        farm = Farm("runpod://echo", settings=Settings(home=tmp_path / "home", **given))
        sources = {"cond_video": str(portrait), "cond_audio": {"person1": str(voice)}}
        job = farm.submit(prompt="a woman talks", **sources, **TWO_CHUNKS)
        stages = [event.stage for event in job.events()]

        assert job.status().state == "success", log.read_text()
        assert stages[-1] == "completed"
        saved = job.save(tmp_path / "own.mp4")
        assert len(decoded_frames(saved.as_uri())) == TWO_CHUNKS["max_frame_num"]
