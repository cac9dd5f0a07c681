"""A submitted job: its events, its result, its video."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from farm.client import Farm, Job
from farm.errors import Cancelled, CorruptObject, DownloadFailed, FarmError, InvalidInput, TimedOut
from farm.job import Result, Video
from farm.registry.outputs import MuxOutput
from farm.store import keys
from tests.support.jobs import FIELDS
from tests.support.steps import complete


def finished(farm: Farm, video: bytes = b"the video") -> Job:
    """A job whose mux step is committed."""
    job = farm.submit(FIELDS)
    registry = farm.context.registry
    farm.context.store.put("jobs/video.mp4", video)
    result = Result(job_id=job.id, status="success")
    output = MuxOutput(result=result, video_key="jobs/video.mp4")
    farm.context.store.put("jobs/thumbnail.jpg", b"a frame")
    digests = {
        "jobs/video.mp4": keys.digest(video),
        "jobs/thumbnail.jpg": keys.digest(b"a frame"),
    }
    complete(registry, "mux", output, job_id=job.id, digests=digests)
    registry.jobs.end(job.id, "success", result)
    return job


def test_events_can_be_read_by_an_async_loop(farm):
    job = farm.submit(FIELDS)

    async def stages() -> list[str]:
        threading.Timer(0.2, job.cancel).start()
        return [event.stage async for event in job.aevents()]

    assert asyncio.run(stages()) == ["cancelled"]


def test_events_end_with_the_job(farm):
    job = farm.submit(FIELDS)
    job.cancel()
    assert [event.stage for event in job.events()] == ["cancelled"]


def test_wait_times_out_while_the_job_continues(farm):
    job = farm.submit(FIELDS)
    with pytest.raises(TimedOut, match=r"has not ended within 0\.1 s; it is at queued"):
        job.wait(0.1)
    assert job.status().state == "queued"


# The result


def test_the_result_of_a_finished_job_is_returned(farm):
    job = finished(farm)
    assert job.result(timeout_s=1) == Result(job_id=job.id, status="success")


@pytest.mark.parametrize("kind", FarmError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_the_result_of_a_failed_job_raises_its_error(farm, kind):
    job = farm.submit(FIELDS)
    farm.context.registry.jobs.fail(job.id, kind("the reason", retryable=True), at_stage="mux")
    with pytest.raises(kind, match=r"^the reason$") as caught:
        job.result(timeout_s=1)
    assert caught.value.retryable


def test_a_cancelled_job_names_who_cancelled_it(farm):
    job = farm.submit(FIELDS)
    assert job.cancel(by="the operator")
    assert not job.cancel()
    with pytest.raises(Cancelled, match="cancelled by the operator at queued"):
        job.result(timeout_s=1)


def test_a_job_can_be_awaited(farm):
    async def results() -> tuple[Result, Result]:
        job = await farm.asubmit(FIELDS)
        end = Result(job_id=job.id, status="success")
        threading.Timer(0.2, farm.context.registry.jobs.end, (job.id, "success", end)).start()
        return await job, await job.aresult()

    first, second = asyncio.run(results())
    assert (first.status, first) == ("success", second)


def test_an_awaited_job_may_be_left_alone(farm):
    job = farm.submit(FIELDS)

    async def leave() -> None:
        with pytest.raises(TimedOut, match="it is at queued"):
            await job.aresult(timeout_s=0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.aresult(), 0.1)

    asyncio.run(leave())
    assert job.status().state == "queued"


# How it is shown


def test_a_job_shows_its_state(farm):
    job = farm.submit(FIELDS)
    assert repr(job) == f"<Job {job.id}: queued at queued (0 %)>"
    farm.context.registry.jobs.fail(job.id, DownloadFailed("gone"), at_stage="downloads_started")
    assert repr(job) == f"<Job {job.id}: error at downloads_started (0 %)>"


def test_a_job_whose_state_cannot_be_seen_is_shown_all_the_same(farm):
    job = Job(farm.context, "<unknown>")
    assert repr(job).startswith("<Job <unknown>: job_id: got '<unknown>'; there is no such job")
    assert job._repr_html_().startswith("<p>job &lt;unknown&gt;: job_id: got &#x27;")


def test_a_notebook_shows_the_state_and_then_the_video(farm):
    job = farm.submit(FIELDS)
    assert job._repr_html_() == f"<p>job {job.id}: queued at queued (0 %)</p>"
    video = Video(url="https://example.org/v.mp4?a&b", bytes=9, thumbnail_url="")
    result = Result(job_id=job.id, status="success", video=video)
    farm.context.registry.jobs.end(job.id, "success", result)
    shown = job._repr_html_()
    assert shown.startswith(f"<p>job {job.id}: success at")
    assert '<video src="https://example.org/v.mp4?a&amp;b" controls' in shown


# The video


def test_the_video_can_be_saved(farm, tmp_path):
    path = finished(farm).save(tmp_path / "out.mp4")
    assert (path, path.read_bytes()) == (tmp_path / "out.mp4", b"the video")


def test_saving_replaces_a_file_and_leaves_no_temporary_one(farm, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "out.mp4").write_bytes(b"an older video")
    finished(farm).save(tmp_path / "out" / "out.mp4")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [
        ("out.mp4", b"the video")
    ]


def test_saving_twice_leaves_one_file(farm, tmp_path):
    (tmp_path / "out").mkdir()
    job = finished(farm)
    for _ in range(2):
        job.save(tmp_path / "out" / "out.mp4")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.mp4"]


def test_changing_a_saved_video_does_not_change_the_stored_one(farm, tmp_path):
    job = finished(farm)
    with job.save(tmp_path / "out.mp4").open("r+b") as file:
        file.write(b"THE")
    assert farm.context.store.get("jobs/video.mp4") == b"the video"


@pytest.mark.parametrize(
    "path", ["/missing/out.mp4", "/missing/../out.mp4", "/proc/out.mp4", "/dev/null/out.mp4"]
)
def test_an_unwritable_output_is_rejected(farm, path):
    with pytest.raises(
        InvalidInput, match=f"output: got '{path}'; allowed: a file in a writable folder"
    ):
        finished(farm).save(Path(path))


def test_a_full_disk_is_named_as_any_output_that_cannot_be_written(farm, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(shutil, "copyfile", Mock(side_effect=full))
    with pytest.raises(InvalidInput, match=r"writable folder \(No space left on device\)"):
        finished(farm).save(tmp_path / "out.mp4")


def test_a_video_lost_by_the_store_is_a_download_error(farm, tmp_path):
    job = finished(farm)
    farm.context.store.delete("jobs/video.mp4")
    with pytest.raises(DownloadFailed, match=f"the store holds no video of job {job.id}"):
        job.save(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_damaged_in_the_store_is_not_saved(farm, tmp_path):
    job = finished(farm)
    farm.context.store.put("jobs/video.mp4", b"the vide0")
    with pytest.raises(CorruptObject, match=r"jobs/video\.mp4 is corrupt"):
        job.save(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_the_thumbnail_can_be_saved_as_long_as_there_is_one(farm, tmp_path):
    job = finished(farm)
    path = job.save_thumbnail(tmp_path / "frame.jpg")
    assert path is not None
    assert path.read_bytes() == b"a frame"
    farm.context.store.delete("jobs/thumbnail.jpg")
    assert job.save_thumbnail(tmp_path / "again.jpg") is None
    assert farm.submit(FIELDS).save_thumbnail(tmp_path / "none.jpg") is None


def test_a_video_is_saved_into_a_folder(farm, tmp_path):
    job = finished(farm)
    assert job.save(tmp_path) == tmp_path / f"{job.id}.mp4"  # a result without a URL
    assert job.save(f"{tmp_path}/").read_bytes() == b"the video"


def test_a_video_is_saved_under_no_name_of_another_format(farm, tmp_path):
    job = finished(farm)
    with pytest.raises(InvalidInput, match=r"out.avi'; a video is an MP4; allowed: a name that"):
        job.save(tmp_path / "out.avi")
    assert [job.save(tmp_path / name).name for name in ("OUT.MP4", "out")] == ["OUT.MP4", "out"]


def test_a_path_to_save_to_may_be_a_text(farm, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert finished(farm).save("~/out.mp4") == tmp_path / "out.mp4"


def test_a_failed_job_has_nothing_to_save(farm, tmp_path):
    job = farm.submit(FIELDS)
    job.cancel()
    with pytest.raises(Cancelled):
        job.save(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
