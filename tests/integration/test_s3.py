"""A whole job through workers that keep its objects in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen, urlretrieve

import av
import pytest

from farm import Farm
from farm.job import Result
from farm.store.s3 import S3Store
from tests.support.player import play
from tests.support.small_farm import small_farm
from tests.support.swift import SECRET_KEY, Swift


@pytest.fixture(scope="module")
def farm(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    public_base = swift.endpoint.replace("127.0.0.1", "localhost")
    bucket = swift.settings(s3_public_base=public_base).model_dump(exclude_unset=True)
    with small_farm(tmp_path_factory.mktemp("home"), **bucket) as supervisor:
        yield Farm(settings=supervisor.settings)


@pytest.fixture(scope="module")
def result(farm: Farm, small: dict[str, Any]) -> Result:
    return farm.submit({**small, "max_frame_num": 41}).result()


def test_the_video_of_a_job_on_s3_is_downloaded_from_its_url(
    result: Result, tmp_path: Path
) -> None:
    urlretrieve(result.video.url, tmp_path / "video.mp4")

    with av.open(str(tmp_path / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == result.params["frames"] > 21
    assert (tmp_path / "video.mp4").stat().st_size == result.video.bytes
    for artifact in result.artifacts:
        with urlopen(artifact.url) as response:
            assert response.headers["Content-Type"] == artifact.mime
            assert len(response.read()) == artifact.bytes


def test_all_objects_of_a_job_on_s3_are_in_the_bucket_and_none_on_the_disk(
    farm: Farm, result: Result
) -> None:
    stored = list(farm.context.store.keys(f"jobs/{result.job_id}/"))

    assert isinstance(farm.context.store, S3Store)
    segments = sum(key.endswith("segment.m4s") for key in stored)
    assert segments == result.params["chunks"] > 1
    assert not (farm.context.settings.folder / "store").exists()


def test_a_job_on_s3_is_watched_through_signed_urls_alone(farm: Farm, result: Result) -> None:
    played = play(farm.job(result.job_id).playlist())

    frames = result.params["frames"]
    assert played.times == list(range(frames))
    assert abs(played.audio.shape[1] - 1920 * frames) < 1024


def test_the_video_of_a_job_on_s3_can_be_saved(farm: Farm, result: Result, tmp_path: Path) -> None:
    path = farm.job(result.job_id).save(tmp_path / "mine.mp4")

    assert path.stat().st_size == result.video.bytes


def test_no_log_contains_the_secret_key_of_the_store(farm: Farm, result: Result) -> None:
    folder = farm.context.settings.folder / "logs"
    logs = {log.name: log.read_text() for log in folder.iterdir()}

    assert "step_committed" in logs["gpu.log"]
    assert [name for name, text in logs.items() if SECRET_KEY in text] == []
