"""Results that go to a bucket, to a folder or into themselves, where the farm's operator allows it."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import pytest

from farm.client import Farm
from farm.engine.context import Context
from farm.route import LAST
from farm.engine.step_context import StepContext
from farm.errors import InvalidInput, UploadFailed
from farm.job import JobRequest
from farm.registry import Lease, open_registry
from farm.settings import Settings
from farm.steps.output import inline_video, publish_artifact, open_destination
from farm.store import Store
from farm.store.memory import MemoryStore
from tests.support.swift import Swift, bucket_of

GIVEN: dict[str, Any] = {
    "prompt": "x",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}
NAME = "infitalk_infinitetalk-480_40_seed42_a.mp4"


def request(**output: str) -> JobRequest:
    return JobRequest.parse({**GIVEN, "output_config": output})


def destination(settings: Settings, **output: str) -> Store | None:
    return open_destination(request(**output).output_config, settings)


def refusal(settings: Settings, **output: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        destination(settings, **output)
    return caught.value.message


def work_on(wanted: JobRequest, settings: Settings, scratch: Path) -> StepContext:
    ctx = Context(settings, MemoryStore(), open_registry("memory://"))
    return StepContext(
        ctx.settings, ctx.store, ctx.registry, LAST, Lease("a", "mux", 1, 1), wanted, scratch, threading.Event()
    )


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "scratch" / "made.mp4"
    path.parent.mkdir()
    path.write_bytes(b"the video")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "results"
    path.mkdir()
    return path


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", output_folder=folder)


def at(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


# Folders


def test_a_file_goes_into_the_operators_folder_under_the_contracts_name(settings, folder, video):
    step_ctx = work_on(request(store="volume", prefix="of/anna"), settings, video.parent)
    url = publish_artifact(step_ctx, destination(settings, store="volume", prefix="of/anna"), "key", video)
    assert at(url) == folder / "of" / "anna" / NAME
    assert at(url).read_bytes() == b"the video"


def test_handing_out_twice_is_the_same_as_once(settings, folder, video):
    step_ctx = work_on(request(store="volume"), settings, video.parent)
    urls = [publish_artifact(step_ctx, destination(settings, store="volume"), "key", video) for _ in range(2)]
    assert urls[0] == urls[1]
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(settings, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert refusal(settings, store="volume", prefix="link/in") == (
        "output_config.prefix: got 'link/in'; it leads out of the folder for results"
    )


def test_a_link_within_the_folder_is_followed(settings, folder):
    (folder / "anna").mkdir()
    (folder / "link").symlink_to(folder / "anna")
    assert destination(settings, store="volume", prefix="link") is not None


def test_a_file_that_is_a_link_is_replaced_and_not_written_through(settings, folder, video, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / NAME).symlink_to(tmp_path / "secret")
    publish_artifact(work_on(request(store="volume"), settings, video.parent), destination(settings, store="volume"), "key", video)
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (folder / NAME).read_bytes() == b"the video"


@pytest.mark.parametrize("own", ["results", "results/store"])
def test_the_farms_own_store_is_no_folder_for_results(folder, tmp_path, own):
    settings = Settings(output_folder=folder, store_url=(tmp_path / own).as_uri())
    assert "it leads out of the folder for results" in refusal(settings, store="volume", prefix="store/jobs")


def test_a_folder_that_cannot_be_written_is_a_failed_upload(tmp_path, video):
    (tmp_path / "file").touch()
    settings = Settings(output_folder=tmp_path / "file", store_retry_s=0)
    step_ctx = work_on(request(store="volume"), settings, video.parent)
    with pytest.raises(UploadFailed, match=r"Not a directory|File exists") as caught:
        publish_artifact(step_ctx, destination(settings, store="volume"), "key", video)
    assert caught.value.retryable


# Buckets


@pytest.fixture
def open_to_jobs(swift: Swift) -> tuple[Settings, str]:
    """A farm with a store of its own, and a bucket that jobs may have their results copied to."""
    bucket = bucket_of(swift.settings())
    return swift.settings(output_buckets=(bucket,)), bucket


def test_a_file_goes_into_an_allowed_bucket_and_anybody_with_its_url_can_take_it(open_to_jobs, swift, video):
    settings, bucket = open_to_jobs
    wanted = {"store": "s3", "bucket": bucket, "prefix": "of/anna", "region": "us-east-1"}
    url = publish_artifact(work_on(request(**wanted), settings, video.parent), destination(settings, **wanted), "key", video)
    with urlopen(url) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"the video", "video/mp4")
    listed = swift.client().list_objects(bucket, recursive=True)
    assert [each.object_name for each in listed] == [f"of/anna/{NAME}"]


def test_the_region_is_the_requests(open_to_jobs):
    settings, bucket = open_to_jobs
    found = destination(settings, store="s3", bucket=bucket, region="eu-central-1")
    assert "eu-central-1" in found.url("x")


def test_a_bucket_that_is_not_there_is_a_failed_upload(swift, video):
    settings = swift.settings(output_buckets=("nowhere",), store_retry_s=0)
    step_ctx = work_on(request(store="s3", bucket="nowhere"), settings, video.parent)
    with pytest.raises(UploadFailed, match="s3://nowhere/ could not take"):
        publish_artifact(step_ctx, destination(settings, store="s3", bucket="nowhere"), "key", video)


def test_a_bucket_that_the_operator_does_not_name_is_refused(open_to_jobs):
    settings, bucket = open_to_jobs
    assert refusal(settings, store="s3", bucket="another") == (
        f"output_config.bucket: got 'another'; buckets of this farm: {bucket}"
    )


def test_the_bucket_of_the_farms_own_store_is_refused(swift):
    settings = swift.settings()
    own = bucket_of(settings)
    allowing = settings.model_copy(update={"output_buckets": (own,)})
    assert "the farm's own store lies there" in refusal(allowing, store="s3", bucket=own)


# In the result


def test_a_small_video_is_carried_by_its_result(settings, video):
    step_ctx = work_on(request(store="inline"), settings, video.parent)
    assert base64.b64decode(inline_video(step_ctx, "key", video)) == b"the video"
    assert destination(settings, store="inline") is None


def test_a_video_of_exactly_the_limit_is_carried(settings, video):
    exact = settings.model_copy(update={"output_inline_bytes": 9})
    assert inline_video(work_on(request(store="inline"), exact, video.parent), "key", video)


def test_a_larger_one_is_refused_by_size_and_limit_and_lies_in_the_store(settings, video):
    tight = settings.model_copy(update={"output_inline_bytes": 8})
    with pytest.raises(UploadFailed) as caught:
        inline_video(work_on(request(store="inline"), tight, video.parent), "jobs/a/made.mp4", video)
    assert "has 9 bytes; a result carries at most 8 (FARM_OUTPUT_INLINE_BYTES)" in caught.value.message
    assert caught.value.message.endswith("it lies at memory:///jobs/a/made.mp4")
    assert not caught.value.retryable


@pytest.mark.parametrize("output", [None, {"store": "volume"}])
def test_nothing_else_is_carried(settings, video, output):
    wanted = JobRequest.parse({**GIVEN, "output_config": output})
    assert inline_video(work_on(wanted, settings, video.parent), "key", video) is None


def test_a_request_without_a_wish_finds_its_files_in_the_store(settings, video):
    step_ctx = work_on(JobRequest.parse(GIVEN), settings, video.parent)
    assert open_destination(None, settings) is None
    assert publish_artifact(step_ctx, None, "jobs/a/made.mp4", video) == "memory:///jobs/a/made.mp4"


# Refused before anything is entered


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ({"store": "volume"}, "FARM_OUTPUT_FOLDER is not set"),
        ({"store": "s3", "bucket": "b"}, "FARM_OUTPUT_BUCKETS is not set"),
        ({"store": "inline"}, "FARM_OUTPUT_INLINE_BYTES is 0"),
    ],
    ids=["volume", "s3", "inline"],
)
def test_a_farm_refuses_what_its_operator_has_not_allowed(tmp_path, output, why):
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0", output_inline_bytes=0)
    with pytest.raises(InvalidInput, match=why):
        Farm(settings=settings).submit(request(**output))
