"""What the tests of the `farm` command share: arguments, jobs, and checks of output."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from farm.client import Farm
from farm.errors import DownloadFailed
from farm.job import JobRequest
from farm.job import Result as JobResult
from farm.registry.outputs import MuxOutput
from farm.store import keys
from tests.support.jobs import FIELDS, TRIAL
from tests.support.steps import complete

Run = Callable[..., Result]
OPTIONS = [
    *("--prompt", "a woman talks"),
    *("--image", FIELDS["cond_video"]),
    *("--audio", FIELDS["cond_audio"]["person1"]),
]


def request_of(farm: Farm, result: Result) -> JobRequest:
    """The request of the job whose id a command printed."""
    assert (result.exit_code, result.stderr) == (0, f"note: {TRIAL}\n")
    return farm.context.registry.jobs.request(result.stdout.strip())


def error_line(result: Result, status: int = 2) -> str:
    """The one line that a rejected command prints."""
    (line,) = error_lines(result, status)
    return line


def error_lines(result: Result, status: int = 2) -> list[str]:
    """The lines that a rejected command prints, one for each mistake."""
    assert (result.exit_code, result.stdout) == (status, "")
    return result.stderr.splitlines()


def failed(farm: Farm) -> str:
    """The id of a job that failed."""
    job = farm.submit(FIELDS)
    farm.context.registry.jobs.fail(
        job.id, DownloadFailed("cond_video: 404", retryable=False), at_stage="downloads_started"
    )
    return job.id


def finished(farm: Farm) -> str:
    """The id of a job with a video."""
    job = farm.submit(FIELDS)
    store = farm.context.store
    store.put("jobs/video.mp4", b"the video")
    video = {
        "url": store.url("jobs/video.mp4"),
        "bytes": 9,
        "thumbnail_url": "file:///thumbnail.jpg",
    }
    result = JobResult.model_validate(
        {
            "job_id": job.id,
            "status": "success",
            "video": video,
            "warnings": ("the voice is longer",),
        }
    )
    output = MuxOutput(result=result, video_key="jobs/video.mp4")
    digests = {"jobs/video.mp4": keys.digest(b"the video")}
    complete(farm.context.registry, "mux", output, job_id=job.id, digests=digests)
    farm.context.registry.jobs.end(job.id, "success", result)
    return job.id
