"""The commands, unchanged, on an endpoint instead of a farm with a broker."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from farm.cli import cli
from tests.support.api_server import ApiServer
from tests.support.cli import OPTIONS, Run, error_line
from tests.support.endpoint import KEY, RUN, accept_jobs, posted, progress, result, say, say_in_turn
from tests.support.jobs import FIELDS


@pytest.fixture
def run(server: ApiServer, tmp_path: Path) -> Run:
    environ = {
        "FARM_HOME": str(tmp_path / "home"),
        "FARM_BROKER_URL": "runpod://ep",
        "FARM_FETCH_ALLOW": "127.0.0.0/8",
        "RUNPOD_API_KEY": KEY,
        "RUNPOD_ENDPOINT_BASE_URL": server.url,
        "COLUMNS": "200",
    }

    def call(*args: str, **variables: str) -> Result:
        return CliRunner().invoke(cli, args, env={**environ, **variables})

    return call


def finish(server: ApiServer, job_id: str) -> None:
    """A job has ended with a video."""
    server.script(f"GET /v2/store/{job_id}.mp4", b"the video")
    output = result(f"{server.url}/store/{job_id}.mp4")
    say(server, job_id, "COMPLETED", output=output)


def test_submit_prints_the_id_of_the_job(run, server):
    accept_jobs(server, "job-1")
    submitted = run("submit", *OPTIONS)
    assert (submitted.exit_code, submitted.stdout) == (0, "job-1\n")
    assert posted(server)[0].json == {"input": FIELDS}


def test_submit_follows_the_job_and_saves_its_video(run, server, tmp_path):
    accept_jobs(server, "job-1")
    finish(server, "job-1")
    ended = server.answers["GET /v2/ep/status/job-1"][0]
    say_in_turn(server, "job-1", progress(1, "downloads_started", 3))
    server.answers["GET /v2/ep/status/job-1"].append(ended)
    saved = run("submit", *OPTIONS, "-o", str(tmp_path / "own.mp4"))
    assert (saved.exit_code, saved.stdout) == (0, f"job-1\n{tmp_path / 'own.mp4'}\n")
    assert "  3.0 %  downloads_started" in saved.stderr
    assert (tmp_path / "own.mp4").read_bytes() == b"the video"


def test_status_of_a_job_that_was_submitted_elsewhere(run, server):
    say(server, "other", **progress(1, "chunk_0_decode", 40))
    state, times = run("status", "other").stdout.splitlines()
    assert state == "running at chunk_0_decode (40 %)"
    assert times.startswith("submitted ")
    assert json.loads(run("status", "other", "--json").stdout)["webhook"] is None


def test_watch_of_a_job_that_failed_is_status_1(run, server):
    say(server, "job-1", "TIMED_OUT")
    watched = run("watch", "job-1")
    assert watched.exit_code == 1
    assert "E_TIMEOUT: Runpod ended the job" in watched.stdout


def test_a_growing_video_is_refused(run, server):
    say(server, "job-1", "IN_PROGRESS")
    assert "playlist: an endpoint shows no growing video" in error_line(
        run("watch", "job-1", "--play")
    )


def test_result_prints_the_url_of_the_video(run, server):
    finish(server, "job-1")
    assert run("result", "job-1").stdout == f"{server.url}/store/job-1.mp4\n"


def test_result_of_a_job_that_has_not_ended_is_refused(run, server):
    say(server, "job-1", "IN_QUEUE")
    assert "it has not ended" in error_line(run("result", "job-1"))


def test_cancel_ends_a_job(run, server):
    server.script("POST /v2/ep/cancel/job-1", {"id": "job-1", "status": "CANCELLED"})
    say_in_turn(server, "job-1", {"status": "IN_QUEUE"}, {"status": "CANCELLED"})
    assert run("cancel", "job-1").stdout == "cancelled\n"


def test_jobs_lists_what_was_submitted_from_here(run, server):
    accept_jobs(server, "job-1", "job-2")
    for _ in range(2):
        run("submit", *OPTIONS, FARM_CALLER="anna")
    finish(server, "job-1")
    header, *lines = run("jobs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["job-2", "job-1"]
    assert "anna          success    100.0 %  " in lines[1]
    assert run("jobs", "--caller", "bert").stdout == f"{header}\n"


def test_a_batch_makes_each_row_once(run, server, tmp_path):
    header = "id,prompt,cond_video,cond_audio.person1"
    voice = FIELDS["cond_audio"]["person1"]
    rows = [f"row{n},a woman talks,{FIELDS['cond_video']},{voice}" for n in range(3)]
    (tmp_path / "jobs.csv").write_text("\n".join([header, *rows]))
    accept_jobs(server, "job-0", "job-1", "job-2")
    finish(server, "job-0")
    finish(server, "job-1")
    say(server, "job-2", "FAILED", error="out of luck")
    args = ("batch", "run", str(tmp_path / "jobs.csv"), "-o", str(tmp_path / "results.csv"))
    assert run(*args).exit_code == 1
    # The same command tries the one again that has no video.
    server.answers[RUN].clear()
    accept_jobs(server, "job-3")
    finish(server, "job-3")
    assert run(*args).exit_code == 0
    assert len(posted(server)) == 4
    with (tmp_path / "results.csv").open(newline="") as file:
        made = {line["id"]: (line["job_id"], line["status"]) for line in csv.DictReader(file)}
    assert made == {
        "row0": ("job-0", "success"),
        "row1": ("job-1", "success"),
        "row2": ("job-3", "success"),
    }


def test_a_batch_is_not_continued_after_a_row_that_may_have_been_accepted(run, server, tmp_path):
    header = "prompt,cond_video,cond_audio.person1"
    row = f"a woman talks,{FIELDS['cond_video']},{FIELDS['cond_audio']['person1']}"
    (tmp_path / "jobs.csv").write_text("\n".join([header, row]))
    server.script(RUN, {}, 504)
    batch = run("batch", "run", str(tmp_path / "jobs.csv"), "-o", str(tmp_path / "results.csv"))
    assert batch.exit_code == 3
    assert "the job may have been accepted" in batch.stderr
    assert len(posted(server)) == 1


@pytest.mark.parametrize("command", ["recover", "gc"])
def test_what_an_endpoint_cannot_do_is_one_line(run, command):
    assert f"{command}: got runpod://ep, which keeps its jobs itself" in error_line(run(command))


def test_without_a_key_nothing_is_sent(run, server):
    line = error_line(run("submit", *OPTIONS, RUNPOD_API_KEY=""))
    assert line.startswith("E_INPUT_VALIDATION: RUNPOD_API_KEY: it is not set")
    assert server.requests == []


def test_a_refused_key_is_one_line(run, server):
    server.script(RUN, {}, 401)
    assert "RUNPOD_API_KEY: " in error_line(run("submit", *OPTIONS))


def test_workers_need_a_broker(run):
    assert "FARM_BROKER_URL: got runpod://" in error_line(run("metrics", "--once"))
