"""Videos that are copied to a folder or a bucket, or returned in the result, if this is allowed."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import pytest

from farm.client import Farm
from farm.engine.context import Context
from farm.engine.step_context import StepContext
from farm.errors import InvalidInput, UploadFailed
from farm.job import JobRequest
from farm.registry import open_registry
from farm.route import MUX
from farm.settings import Settings
from farm.steps.output import file_stem, inline_video, open_destination, publish_artifact
from farm.store import Store
from farm.store.memory import MemoryStore
from tests.support.jobs import REQUEST, job_request
from tests.support.steps import step_context
from tests.support.swift import Swift, bucket_of

NAME = "infitalk_miniature-480_4_seed42_a.mp4"


def request(**config: str) -> JobRequest:
    return job_request(output_config=config)


def destination(settings: Settings, **config: str) -> Store | None:
    return open_destination(request(**config).output_config, settings)


def refusal(settings: Settings, **config: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        destination(settings, **config)
    return caught.value.message


def mux_context(request: JobRequest, settings: Settings, scratch: Path) -> StepContext:
    ctx = Context(settings, MemoryStore(), open_registry("memory://"))
    return step_context(ctx, MUX, scratch=scratch, request=request)


def publish(video: Path, settings: Settings, **config: str) -> str:
    """Publishes the video of a job with that output_config; its URL."""
    ctx = mux_context(request(**config), settings, video.parent)
    return publish_artifact(ctx, destination(settings, **config), "key", video)


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


@pytest.mark.parametrize(
    ("model", "size", "named"),
    [
        ("infinitetalk-480", "infinitetalk-480", "infinitetalk-480"),
        ("infinitetalk-480", "infinitetalk-720", "infinitetalk-720"),
        ("flashtalk", "flashtalk-448", "flashtalk-448"),
        ("miniature", "infinitetalk-720", "miniature-720"),
    ],
)
def test_a_file_is_named_after_the_model_that_ran(tmp_path, model, size, named):
    made = job_request(model=model, size=size, sample_steps=4)
    stem = file_stem(mux_context(made, Settings(home=tmp_path), tmp_path))
    assert stem == f"infitalk_{named}_4_seed42_a"


# Folders


def test_a_prefix_of_a_link_to_itself_is_refused(settings, folder):
    (folder / "loop").symlink_to(folder / "loop")
    message = refusal(settings, store="volume", prefix="loop/a")
    assert message.startswith("output_config.prefix: got 'loop/a'; it names a link that leads")


def test_a_file_is_copied_into_the_operators_folder_under_the_contracts_name(
    settings, folder, video
):
    url = publish(video, settings, store="volume", prefix="of/anna")
    path = Path(unquote(urlsplit(url).path))
    assert path == folder / "of" / "anna" / NAME
    assert path.read_bytes() == b"the video"


def test_publishing_twice_has_the_effect_of_publishing_once(settings, folder, video):
    first = publish(video, settings, store="volume")
    assert publish(video, settings, store="volume") == first
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


def test_a_file_that_is_a_link_is_replaced_and_not_written_through(
    settings, folder, video, tmp_path
):
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / NAME).symlink_to(tmp_path / "secret")
    publish(video, settings, store="volume")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (folder / NAME).read_bytes() == b"the video"


@pytest.mark.parametrize("own", ["results", "results/store"])
def test_the_farms_own_store_is_no_folder_for_results(folder, tmp_path, own):
    settings = Settings(output_folder=folder, store_url=(tmp_path / own).as_uri())
    message = refusal(settings, store="volume", prefix="store/jobs")
    assert "it leads out of the folder for results" in message


def test_a_folder_that_cannot_be_written_is_a_failed_upload(tmp_path, video):
    (tmp_path / "file").touch()
    settings = Settings(output_folder=tmp_path / "file", store_retry_s=0)
    with pytest.raises(UploadFailed, match=r"Not a directory|File exists") as caught:
        publish(video, settings, store="volume")
    assert caught.value.retryable


# Buckets


@pytest.fixture
def bucket(swift: Swift) -> str:
    """A bucket to which jobs may copy their results."""
    return bucket_of(swift.settings())


@pytest.fixture
def allowing(swift: Swift, bucket: str) -> Settings:
    """The settings of a farm with a store of its own that allows that bucket."""
    return swift.settings(output_buckets=(bucket,))


def test_a_file_is_copied_into_an_allowed_bucket_and_its_url_is_public(
    allowing, bucket, swift, video
):
    url = publish(video, allowing, store="s3", bucket=bucket, prefix="of/anna", region="us-east-1")
    with urlopen(url) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"the video", "video/mp4")
    listed = swift.client().list_objects(bucket, recursive=True)
    assert [each.object_name for each in listed] == [f"of/anna/{NAME}"]


def test_the_region_is_the_requests(allowing, bucket):
    found = destination(allowing, store="s3", bucket=bucket, region="eu-central-1")
    assert "eu-central-1" in found.url("x")


def test_a_bucket_that_does_not_exist_is_a_failed_upload(swift, video):
    settings = swift.settings(output_buckets=("nowhere",), store_retry_s=0)
    with pytest.raises(UploadFailed, match="s3://nowhere/ could not take"):
        publish(video, settings, store="s3", bucket="nowhere")


def test_a_bucket_that_the_operator_does_not_allow_is_refused(allowing, bucket):
    assert refusal(allowing, store="s3", bucket="another") == (
        f"output_config.bucket: got 'another'; buckets of this farm: {bucket}"
    )


def test_the_bucket_of_the_farms_own_store_is_refused(swift):
    settings = swift.settings()
    own = bucket_of(settings)
    settings = settings.model_copy(update={"output_buckets": (own,)})
    assert refusal(settings, store="s3", bucket=own) == (
        f"output_config.bucket: got {own!r}; it is the bucket of the farm's own store"
    )


# In the result


def inline(video: Path, settings: Settings, limit: int, key: str = "key") -> str | None:
    changed = settings.model_copy(update={"output_inline_bytes": limit})
    return inline_video(mux_context(request(store="inline"), changed, video.parent), key, video)


def test_a_small_video_is_returned_in_its_result(settings, video):
    limit = settings.output_inline_bytes
    assert base64.b64decode(inline(video, settings, limit)) == b"the video"
    assert destination(settings, store="inline") is None


def test_a_video_of_exactly_the_limit_is_returned_in_its_result(settings, video):
    assert inline(video, settings, limit=9)


def test_a_larger_video_is_refused_with_size_and_limit_and_stays_in_the_store(settings, video):
    with pytest.raises(UploadFailed) as caught:
        inline(video, settings, limit=8, key="jobs/a/made.mp4")
    message = caught.value.message
    assert "has 9 bytes; a result holds at most 8 (FARM_OUTPUT_INLINE_BYTES)" in message
    assert message.endswith("; the store has it as jobs/a/made.mp4")
    assert not caught.value.retryable


@pytest.mark.parametrize("config", [None, {"store": "volume"}])
def test_no_other_video_is_returned_in_its_result(settings, video, config):
    wanted = job_request(output_config=config)
    assert inline_video(mux_context(wanted, settings, video.parent), "key", video) is None


def test_without_a_destination_files_are_in_the_store(settings, video):
    ctx = mux_context(REQUEST, settings, video.parent)
    assert open_destination(None, settings) is None
    url = publish_artifact(ctx, None, "jobs/a/made.mp4", video)
    assert url == "memory:///jobs/a/made.mp4"


# Refused before the job is entered


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"store": "volume"}, "FARM_OUTPUT_FOLDER is not set"),
        ({"store": "s3", "bucket": "b"}, "FARM_OUTPUT_BUCKETS is not set"),
        ({"store": "inline"}, "FARM_OUTPUT_INLINE_BYTES is 0"),
    ],
    ids=["volume", "s3", "inline"],
)
def test_a_destination_that_the_operator_has_not_allowed_is_refused(tmp_path, config, reason):
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0", output_inline_bytes=0)
    with pytest.raises(InvalidInput, match=reason):
        Farm(settings=settings).submit(request(**config))
