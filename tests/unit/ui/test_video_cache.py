"""Files that the page serves of the jobs that are looked at."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from farm.ui.video_cache import MOST_JOBS, Shelf


class Finished:
    """A job that has a video."""

    def __init__(self, name: str) -> None:
        self.id, self.saved = name, 0

    def save(self, path):
        self.saved += 1
        path.write_text(self.id)
        return path


def test_a_finished_video_is_fetched_once(tmp_path):
    job, shelf = Finished("a"), Shelf(tmp_path)
    assert shelf.finished(job).read_text() == shelf.finished(job).read_text() == "a"
    assert job.saved == 1


def test_only_the_jobs_that_were_looked_at_last_are_kept(tmp_path):
    shelf = Shelf(tmp_path)
    for number in range(MOST_JOBS + 3):
        os.utime(shelf.finished(Finished(f"job-{number}")).parent, (number, number))
    assert {path.name for path in tmp_path.iterdir()} == {f"job-{number}" for number in range(3, MOST_JOBS + 3)}


def test_many_visitors_do_not_trip_over_what_is_cleared_away(tmp_path):
    shelf = Shelf(tmp_path)
    with ThreadPoolExecutor(16) as visitors:
        shown = list(visitors.map(lambda number: shelf.finished(Finished(f"job-{number}")).name, range(600)))
    assert shown == [f"talking-job-{number}.mp4" for number in range(600)]
