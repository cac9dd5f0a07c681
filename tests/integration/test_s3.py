"""A whole job through real workers that keep their goods in a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen, urlretrieve

import av
import pytest

from farm import Farm
from farm.job import Result
from farm.local.supervisor import open_supervisor
from farm.settings import Settings
from farm.store.s3 import S3Store
from tests.integration.conftest import SMALL
from tests.support.player import play
from tests.support.swift import SECRET_KEY, Swift


@pytest.fixture(scope="module")
def bucket(swift: Swift) -> Settings:
    return swift.settings(s3_public_base=swift.endpoint.replace("127.0.0.1", "localhost"))


@pytest.fixture(scope="module")
def farm(bucket: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose workers find their store by the environment, as workers do."""
    given = {name: getattr(bucket, name) for name in bucket.model_fields_set}
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**given, "home": home}.items():
            patch.setenv(f"FARM_{name.upper()}", str(value))
        with open_supervisor(Settings.load(os.environ)) as supervisor:
            yield Farm(settings=supervisor.settings)


@pytest.fixture(scope="module")
def done(farm: Farm, voice: Path) -> tuple[Farm, str, Result]:
    job = farm.submit({**SMALL, "cond_audio": {"person1": str(voice)}, "max_frame_num": 41})
    return farm, job.id, job.result(timeout_s=240)


def test_the_video_of_a_job_on_s3_is_fetched_by_its_url(done: tuple[Farm, str, Result], tmp_path: Path) -> None:
    _, _, result = done

    urlretrieve(result.video.url, tmp_path / "video.mp4")

    with av.open(str(tmp_path / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == result.params["frames"] > 21
    assert (tmp_path / "video.mp4").stat().st_size == result.video.bytes
    for artifact in result.artifacts:
        with urlopen(artifact.url) as response:
            assert (response.headers["Content-Type"], len(response.read())) == (artifact.mime, artifact.bytes)


def test_all_goods_of_a_job_on_s3_are_in_the_bucket_and_none_on_the_disk(done: tuple[Farm, str, Result]) -> None:
    farm, job_id, result = done

    kept = list(farm.context.store.keys(f"jobs/{job_id}/"))

    assert isinstance(farm.context.store, S3Store)
    assert sum(key.endswith("segment.m4s") for key in kept) == result.params["chunks"] > 1
    assert not (farm.context.settings.folder / "store").exists()


def test_a_job_on_s3_is_watched_by_signed_addresses_alone(done: tuple[Farm, str, Result]) -> None:
    farm, job_id, result = done

    played = play(farm.job(job_id).playlist())

    assert played.times == list(range(result.params["frames"]))
    assert abs(played.sound.shape[1] - 1920 * result.params["frames"]) < 1024


def test_a_job_on_s3_can_be_saved(done: tuple[Farm, str, Result], tmp_path: Path) -> None:
    farm, job_id, result = done

    path = farm.job(job_id).save(tmp_path / "mine.mp4")

    assert path.stat().st_size == result.video.bytes


def test_no_log_holds_the_secret_of_the_store(done: tuple[Farm, str, Result]) -> None:
    farm, _, _ = done

    logs = {log.name: log.read_text() for log in (farm.context.settings.folder / "logs").iterdir()}

    assert "step_made" in logs["gpu.log"]
    assert [name for name, text in logs.items() if SECRET_KEY in text] == []
