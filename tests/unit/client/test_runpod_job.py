"""A job of an endpoint: its status, its events, its video, and what it ends with."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from farm.client import Farm
from farm.client.runpod.endpoint import SETTLING_S
from farm.client.runpod.status import Progress
from farm.errors import Cancelled, DownloadFailed, GenerationFailed, InvalidInput, TimedOut
from tests.support.api_server import ApiServer
from tests.support.endpoint import accept_jobs, farm_of, progress, result, say, say_in_turn
from tests.support.jobs import FIELDS

FAILURE = {
    "code": "E_GENERATION_RUNTIME",
    "message": "chunk 2, step 3: not a number",
    "retryable": True,
    "at_stage": "chunk_2_sampling_40",
    "cause_class": "ValueError",
    "cause_message": "not a number",
}
SDK_ERROR = {
    "error_type": "<class 'ValueError'>",
    "error_message": "no such file",
    "error_traceback": 'Traceback: File "/src/handler.py"',
    "hostname": "pod-64-secret",
}


@pytest.fixture
def farm(server: ApiServer, tmp_path: Path) -> Farm:
    return farm_of(server, tmp_path / "home", fetch_allow="127.0.0.0/8")


def stages(events):
    return [(event.stage, event.pct) for event in events]


# Status and events


def test_events_are_the_stages_that_the_handler_reports(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    say_in_turn(
        server,
        "job-1",
        {"status": "IN_QUEUE"},
        progress(1, "downloads_started", 3),
        progress(2, "chunk_0_sampling_50", 30, chunk=0, chunks=2),
        {"status": "COMPLETED", "output": result()},
    )
    events = list(job.events())
    assert stages(events) == [
        ("queued", 0),
        ("downloads_started", 3),
        ("chunk_0_sampling_50", 30),
        ("completed", 100),
    ]
    assert {event.job_id for event in events} == {"job-1"}
    assert events[2].details == {"chunk": 0, "chunks": 2}


def test_reports_that_arrive_in_another_order_are_left_out(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    say_in_turn(
        server,
        "job-1",
        progress(4, "chunk_1_decode", 60),
        progress(2, "chunk_0_decode", 40),
        progress(5, "muxing_started", 55),
        {"status": "COMPLETED", "output": result()},
    )
    assert stages(job.events()) == [
        ("chunk_1_decode", 60),
        ("muxing_started", 60),
        ("completed", 100),
    ]


def test_a_job_that_another_worker_runs_again_reports_its_stages_anew(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    say_in_turn(
        server,
        "job-1",
        {**progress(9, "chunk_1_decode", 60), "workerId": "first"},
        {**progress(1, "downloads_started", 3), "workerId": "second"},
        {"status": "COMPLETED", "output": result()},
    )
    assert stages(job.events()) == [
        ("chunk_1_decode", 60),
        ("downloads_started", 60),
        ("completed", 100),
    ]


@pytest.mark.parametrize("output", [None, "text", {"pct": 300, "stage": "x"}, {"stage": 5}, []])
def test_a_running_job_whose_output_is_no_progress_is_running(server, farm, output):
    say(server, "job-1", "IN_PROGRESS", output=output)
    status = farm.job("job-1").status()
    assert (status.state, status.stage, status.pct) == ("running", "queued", 0)


def test_the_start_of_a_job_follows_from_its_delay(server, farm):
    say(server, "job-1", "IN_PROGRESS", delayTime=4000, executionTime=2000)
    status = farm.job("job-1").status()
    assert status.started_at == pytest.approx(status.created_at + 4)


@pytest.mark.parametrize(
    ("state", "times"),
    [
        ("IN_QUEUE", {"delayTime": 4000}),
        ("IN_PROGRESS", {}),
        ("CANCELLED", {"delayTime": 4000, "executionTime": 0}),
    ],
)
def test_a_job_whose_start_is_not_known_has_none(server, farm, state, times):
    say(server, "job-1", state, **times)
    assert farm.job("job-1").status().started_at is None


def test_a_later_report_without_a_higher_percentage_keeps_the_higher_one():
    first, second = Progress(counter=1, stage="a", pct=50), Progress(counter=2, stage="b", pct=40)
    assert first.advanced(second) == Progress(counter=2, stage="b", pct=50)
    assert second.advanced(first) == second
    assert first.advanced(None) == first


def test_runpod_is_asked_once_a_second_however_often_a_status_is_read(server, farm):
    say(server, "job-1", "IN_QUEUE")
    job = farm.job("job-1")
    for _ in range(100):
        job.status()
    assert len(server.requests) == 1


def test_the_end_of_a_job_from_here_is_known_when_runpod_has_forgotten_it(server, farm, tmp_path):
    accept_jobs(server, "job-1")
    farm.submit(FIELDS)
    say(server, "job-1", "COMPLETED", output=result())
    ended = farm.job("job-1").status()
    server.answers.clear()
    assert farm_of(server, tmp_path / "home").job("job-1").status() == ended


def submitted_earlier(farm: Farm, seconds: float) -> None:
    """Moves all submissions into the past."""
    with closing(sqlite3.connect(farm.endpoint.submissions.path)) as connection, connection:
        connection.execute("UPDATE submissions_1 SET created_at = created_at - ?", [seconds])


def test_a_job_from_here_that_runpod_has_forgotten_has_timed_out(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    submitted_earlier(farm, SETTLING_S)
    server.answers.clear()
    with pytest.raises(TimedOut, match="Runpod has forgotten the job"):
        job.result()


def test_a_job_that_was_submitted_a_moment_ago_is_not_forgotten(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    server.answers.clear()
    assert job.status().state == "queued"


# How it ends


def test_a_result_is_the_contracts_with_the_id_of_the_job(server, farm):
    say(server, "job-1", "COMPLETED", output=result())
    ended = farm.job("job-1").result()
    assert (ended.job_id, ended.video.bytes, ended.warnings) == ("job-1", 9, ("a note",))


def test_the_result_of_a_generator_is_what_it_yields_last(server, farm):
    say(server, "job-1", "COMPLETED", output=[{"chunk": 0, "url": "https://a"}, result()])
    assert farm.job("job-1").result().video.bytes == 9


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "FAILED", "error": FAILURE},
        {"status": "FAILED", "error": json.dumps(FAILURE)},
        {"status": "FAILED", "output": {"job_id": "x", "status": "error", "error": FAILURE}},
        {"status": "COMPLETED", "output": {"job_id": "x", "status": "error", "error": FAILURE}},
        {"status": "TIMED_OUT", "output": {"job_id": "x", "status": "error", "error": FAILURE}},
    ],
)
def test_an_error_is_the_contracts_however_it_arrives(server, farm, answer):
    say(server, "job-1", **answer)
    job = farm.job("job-1")
    with pytest.raises(GenerationFailed, match="chunk 2, step 3") as caught:
        job.result()
    assert caught.value.retryable
    assert job.status().details["code"] == "E_GENERATION_RUNTIME"
    assert job.status().result.error.at_stage == "chunk_2_sampling_40"


@pytest.mark.parametrize("error", [SDK_ERROR, json.dumps(SDK_ERROR)])
def test_of_an_error_of_the_sdk_the_message_alone_is_shown(server, farm, error):
    say(server, "job-1", "FAILED", error=error)
    failure = farm.job("job-1").status().result.error
    assert (failure.code, failure.message) == (
        "E_WORKER_LOST",
        "the endpoint's worker failed: no such file",
    )
    assert "Traceback" not in failure.model_dump_json()
    assert "pod-64-secret" not in failure.model_dump_json()


@pytest.mark.parametrize("error", [None, "", "worker exited with code 137", [1], {"a": "[" * 9}])
def test_a_failure_without_an_error_of_ours_is_a_lost_worker(server, farm, error):
    say(server, "job-1", "FAILED", error=error)
    assert farm.job("job-1").status().result.error.code == "E_WORKER_LOST"


@pytest.mark.parametrize("output", [None, "done", {"status": "success"}, [], {"items": []}])
def test_an_output_that_is_no_result_is_refused(server, farm, output):
    say(server, "job-1", "COMPLETED", output=output)
    with pytest.raises(InvalidInput, match="its output is not the contract's result"):
        farm.job("job-1").result()


def test_a_time_limit_of_runpod_names_the_limits(server, farm):
    say(server, "job-1", "TIMED_OUT")
    with pytest.raises(TimedOut, match="executionTimeout or ttl"):
        farm.job("job-1").result()


def test_a_wait_that_is_too_short_leaves_the_job_running(server, farm):
    say(server, "job-1", "IN_PROGRESS")
    with pytest.raises(TimedOut, match="has not ended within 0 s"):
        farm.job("job-1").wait(timeout_s=0)


# Cancelling


def test_a_cancelled_job_has_ended(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    server.script("POST /v2/ep/cancel/job-1", {"id": "job-1", "status": "CANCELLED"})
    say_in_turn(server, "job-1", progress(1, "downloads_started", 3), {"status": "CANCELLED"})
    assert job.cancel()
    status = job.status()
    assert (status.state, status.stage, status.pct) == ("cancelled", "cancelled", 3)
    assert status.result.error.message == "cancelled at downloads_started"
    with pytest.raises(Cancelled):
        job.result()


def test_a_job_that_has_ended_is_not_cancelled(server, farm):
    say(server, "job-1", "COMPLETED", output=result())
    assert farm.cancel(["job-1"]) == {"job-1": False}
    assert server.asked("POST /v2/ep/cancel/job-1") == []


def test_a_job_that_ends_while_it_is_cancelled_is_not_cancelled(server, farm):
    server.script("POST /v2/ep/cancel/job-1", {"id": "job-1", "status": "COMPLETED"})
    say_in_turn(
        server, "job-1", {"status": "IN_PROGRESS"}, {"status": "COMPLETED", "output": result()}
    )
    assert farm.cancel(["job-1"]) == {"job-1": False}


# The video


def test_a_video_is_downloaded_from_its_url(server, farm, tmp_path):
    server.script("GET /v2/store/talking.mp4", b"the video")
    say(server, "job-1", "COMPLETED", output=result(f"{server.url}/store/talking.mp4"))
    path = farm.job("job-1").save(tmp_path / "own.mp4")
    assert path.read_bytes() == b"the video"


def test_a_download_that_fails_for_a_moment_is_tried_again(server, farm, tmp_path):
    server.script("GET /v2/store/talking.mp4", b"", 503)
    server.script("GET /v2/store/talking.mp4", b"the video")
    say(server, "job-1", "COMPLETED", output=result(f"{server.url}/store/talking.mp4"))
    assert farm.job("job-1").save(tmp_path / "own.mp4").read_bytes() == b"the video"


@pytest.mark.parametrize("content", [b"the vide", b"the video and more"])
def test_a_video_of_another_size_is_not_saved(server, farm, tmp_path, content):
    server.script("GET /v2/store/talking.mp4", content)
    say(server, "job-1", "COMPLETED", output=result(f"{server.url}/store/talking.mp4"))
    with pytest.raises(DownloadFailed, match="bytes"):
        farm.job("job-1").save(tmp_path / "own.mp4")
    assert not (tmp_path / "own.mp4").exists()


def test_a_video_in_a_folder_of_the_endpoint_is_out_of_reach_and_the_error_says_what_to_do(
    server, farm, tmp_path
):
    say(server, "job-1", "COMPLETED", output=result("file:///workspace/store/video.mp4"))
    with pytest.raises(DownloadFailed, match=r"a folder of its machine; allowed: an s3:// store"):
        farm.job("job-1").save(tmp_path / "own.mp4")


def test_a_video_in_the_result_is_not_downloaded(server, farm, tmp_path):
    inline = result("https://192.0.2.1/x.mp4", base64=base64.b64encode(b"the video").decode())
    say(server, "job-1", "COMPLETED", output=inline)
    assert farm.job("job-1").save(tmp_path / "own.mp4").read_bytes() == b"the video"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:1/x", "not a url"])
def test_a_video_is_fetched_from_public_addresses_alone(server, tmp_path, url):
    farm = farm_of(server, tmp_path / "home")
    say(server, "job-1", "COMPLETED", output=result(url))
    with pytest.raises(DownloadFailed, match="video: "):
        farm.job("job-1").save(tmp_path / "own.mp4")


def test_what_an_endpoint_does_not_show_is_nothing(server, farm, tmp_path):
    say(server, "job-1", "IN_PROGRESS")
    job = farm.job("job-1")
    assert (job.mirror(tmp_path), job.webhook()) == (None, None)
    with pytest.raises(InvalidInput, match="playlist: an endpoint shows no growing video"):
        job.playlist()


def test_an_endpoint_deletes_nothing_on_request(server, farm):
    say(server, "job-1", "IN_PROGRESS")
    with pytest.raises(InvalidInput, match="delete: got 'job-1' of an endpoint, which removes"):
        farm.delete(["job-1"])
    assert farm.job("job-1").status().state == "running", "it is not cancelled either"


def test_an_old_submission_is_removed(server, farm):
    accept_jobs(server, "job-1", "job-2")
    farm.submit(FIELDS)
    submitted_earlier(farm, 31 * 86_400)
    farm.submit(FIELDS)
    assert [each.job_id for each in farm.endpoint.submissions.newest(caller=None, since=0)] == [
        "job-2"
    ]
    assert farm.endpoint.submissions.find("job-2").created_at <= time.time()
