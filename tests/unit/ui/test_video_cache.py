"""The cache of the videos that the page serves."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from zipfile import ZipFile

from farm.ui.video_cache import MAX_CACHED_JOBS, VideoCache


class Finished:
    """A job that has a video, and counts how often it is saved."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.saved = 0

    def save_thumbnail(self, path):
        return self.save(path)

    def save(self, path):
        self.saved += 1
        path.write_text(self.id)
        return path


def test_a_finished_video_is_fetched_once(tmp_path):
    job = Finished("a")
    cache = VideoCache(tmp_path)
    assert cache.fetch_finished(job).read_text() == cache.fetch_finished(job).read_text() == "a"
    assert job.saved == 1


def test_only_the_most_recently_viewed_jobs_are_kept(tmp_path):
    cache = VideoCache(tmp_path)
    for number in range(MAX_CACHED_JOBS + 3):
        os.utime(cache.fetch_finished(Finished(f"job-{number}")).parent, (number, number))
    assert {path.name for path in cache.jobs.iterdir()} == {
        f"job-{number}" for number in range(3, MAX_CACHED_JOBS + 3)
    }


def test_concurrent_visitors_survive_the_removal_of_old_jobs(tmp_path):
    cache = VideoCache(tmp_path)
    with ThreadPoolExecutor(16) as visitors:
        shown = list(
            visitors.map(
                lambda number: cache.fetch_finished(Finished(f"job-{number}")).name, range(600)
            )
        )
    assert shown == [f"talking-job-{number}.mp4" for number in range(600)]


def test_a_thumbnail_is_fetched_once(tmp_path):
    job = Finished("a")
    cache = VideoCache(tmp_path)
    assert cache.fetch_thumbnail(job) == cache.fetch_thumbnail(job) == tmp_path / "thumbnails/a.jpg"
    assert job.saved == 1


def test_all_videos_are_in_one_archive(tmp_path):
    with ZipFile(VideoCache(tmp_path).archive([Finished("a"), Finished("b")])) as archive:
        assert archive.namelist() == ["talking-a.mp4", "talking-b.mp4"]


def test_a_deleted_video_is_in_no_folder_any_more(tmp_path):
    jobs = [Finished("a"), Finished("b")]
    cache = VideoCache(tmp_path)
    cache.archive(jobs)
    for job in jobs:
        cache.fetch_thumbnail(job)
    cache.delete("a")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"jobs/b/talking-b.mp4", "thumbnails/b.jpg"}
    cache.delete("a")
