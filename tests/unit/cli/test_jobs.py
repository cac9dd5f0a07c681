"""`farm status`, `watch`, `result`, `cancel` and `jobs`."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import StringIO
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from farm.cli import viewer
from farm.cli.render import print_line
from farm.client import Farm
from farm.client.progress import batch_progress
from farm.errors import DownloadFailed, InvalidInput
from farm.job import Event, Result
from farm.registry.formats import dump
from farm.registry.outputs import NotifyOutput
from farm.store import keys
from tests.support.cli import error_line, failed, finished
from tests.support.jobs import FIELDS
from tests.support.receiver import SECRET
from tests.support.steps import complete


def test_status_prints_the_state_and_the_place_in_the_queue(run, farm):
    first, second = farm.submit(FIELDS), farm.submit(FIELDS)
    state, times = run("status", first.id).stdout.splitlines()
    assert state == "queued at queued (0 %)"
    assert re.fullmatch(r"submitted \d+ s ago, next in the queue", times)
    assert run("status", second.id).stdout.endswith(", 1 before it in the queue\n")


DETAILS = {"chunk": 0, "chunks": 3, "step": 4, "steps": 40, "eta_s": 2100}


@pytest.fixture
def running(farm) -> str:
    """The id of a job in its first chunk, whose first message no queue has any more."""
    job_id = farm.submit(FIELDS).id
    complete(farm.context.registry, "download", job_id=job_id)
    event = Event(stage="chunk_0_sampling_10", pct=26, job_id=job_id, details=DETAILS)
    farm.context.registry.jobs.report(event)
    return job_id


def test_status_of_a_running_job_says_how_long_it_will_take(run, running):
    times = run("status", running).stdout.splitlines()[1]
    assert re.fullmatch(r"submitted \d+ s ago, begun \d+ s ago, about 35 min left", times)


def test_the_time_that_is_left_runs_down_between_two_events(run, farm, running):
    registry = farm.context.registry
    seen = registry.jobs.status(running)
    registry.backend.redis.set(
        "farm:job:" + running,
        dump(seen.model_copy(update={"updated_at": seen.updated_at - 600})),
    )
    assert "about 25 min left" in run("status", running).stdout
    assert run("jobs").stdout.endswith("25 min left\n")
    assert farm.job(running).status().details["eta_s"] == pytest.approx(1500, abs=5)
    registry.jobs.end(running, "success", Result(job_id=running, status="success"))
    assert farm.job(running).status().details == {}


def test_status_of_a_job_that_has_ended_says_how_long_it_took(run, farm):
    assert re.search(r"^took \d s$", run("status", finished(farm)).stdout, re.M)


def test_the_list_has_the_title_and_what_each_job_waits_for(run, farm, running):
    queued = farm.submit({**FIELDS, "prompt": "a woman talks about all that she has seen"}).id
    lines = {line.split()[0]: line for line in run("jobs").stdout.splitlines()}
    assert "a woman talks  " in lines[running]
    assert lines[running].endswith("sampling, chunk 1 of 3, step 4 of 40, 35 min left")
    assert "  a woman talks about all tha...  " in lines[queued]
    assert lines[queued].endswith("queued, next in the queue")


URLS = {"cond_video": "https://e.org/a/my%20face.png", "cond_audio": FIELDS["cond_audio"]}
SPOKEN = {"cond_video": URLS["cond_video"], "tts_audio": {"text": "good morning,\nall of you"}}


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        (SPOKEN, "good morning, all of you"),
        ({**SPOKEN, "prompt": "a man"}, "good morning, all of you"),
        ({**URLS, "prompt": "a man"}, "a man"),
        (URLS, "my face.png + voice.wav"),
    ],
    ids=["text", "text and prompt", "prompt", "URLs"],
)
def test_the_title_of_a_job_in_the_list_tells_it_from_others(run, farm, fields, title):
    farm.submit(fields)
    assert f"  {title}  " in run("jobs").stdout


def test_files_in_the_list_have_the_beginning_of_their_digests(run, farm, portrait, voice):
    farm.submit(cond_video=portrait, cond_audio={"person1": voice})
    face, recording = (sha256(file.read_bytes()).hexdigest()[:8] for file in (portrait, voice))
    assert f"  {face} + {recording}  " in run("jobs").stdout


def test_the_list_says_why_a_job_failed(run, farm):
    failed(farm)
    assert run("jobs").stdout.endswith("  E_DOWNLOAD_FAILED: cond_video: 404\n")


def test_the_list_is_drawn_until_ctrl_c(run, farm, monkeypatch):
    job_id = farm.submit(FIELDS).id
    monkeypatch.setattr("farm.cli.job_list.time.sleep", Mock(side_effect=[None, KeyboardInterrupt]))
    result = run("jobs", "--watch")
    assert result.exit_code == 0
    assert job_id in result.stdout


def test_an_id_may_be_shortened(run, farm):
    job_id = finished(farm)
    assert run("result", job_id[:8]).stdout == run("result", job_id).stdout
    assert run("cancel", farm.submit(FIELDS).id[:8]).stdout == "cancelled\n"


def test_a_shortened_id_of_several_jobs_is_refused(run, farm):
    ids = {farm.submit(FIELDS).id for _ in range(17)}  # more than there are hexadecimal digits
    digit = next(a[0] for a in ids for b in ids if a != b and a[0] == b[0])
    line = error_line(run("status", digit))
    assert f"job_id: got '{digit}'; several ids begin with it: {digit}" in line


def test_retry_submits_the_request_of_a_failed_job_again(run, farm):
    job_id = failed(farm)
    again = run("retry", job_id).stdout.strip()
    assert again != job_id
    assert farm.job(again).request().prompt == FIELDS["prompt"]
    assert run("retry", job_id).stdout.strip() == again
    assert "allowed: error or cancelled" in error_line(run("retry", again))


def xdg_open(folder: Path, script: str) -> dict[str, str]:
    """The environment of a machine with that xdg-open."""
    program = folder / "xdg-open"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_open_shows_the_video_in_this_machines_player(run, farm, tmp_path):
    job_id = finished(farm)
    url = farm.context.store.url("jobs/video.mp4")
    shown = tmp_path / "shown"
    result = run("open", job_id, **xdg_open(tmp_path, f'echo "$1" > {shown}'))
    assert (result.exit_code, result.stdout, shown.read_text()) == (0, f"{url}\n", f"{url}\n")
    assert run("open", failed(farm)).exit_code == 1


def test_open_says_so_in_its_own_words_if_nothing_shows_videos(run, farm, tmp_path, capfd):
    job_id = finished(farm)
    noise = "echo 'www-browser: not found' >&2; exit 3"
    result = run("open", job_id, **xdg_open(tmp_path, noise))
    assert result.exit_code == 1
    assert f"note: nothing here shows it; farm result {job_id} -o FILE saves it" in result.stderr
    assert "www-browser" not in capfd.readouterr().err
    assert run("open", job_id, PATH="/nowhere").exit_code == 1


def test_what_goes_on_is_a_viewer(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", xdg_open(tmp_path, "exec sleep 2")["PATH"])
    monkeypatch.setattr(viewer, "FAILS_WITHIN_S", 0.01)
    assert viewer.show("file:///video.mp4")


def test_status_of_a_failed_job_prints_its_error_and_exits_with_0(run, farm):
    result = run("status", failed(farm))
    assert result.exit_code == 0
    assert "E_DOWNLOAD_FAILED: cond_video: 404" in result.stdout


def test_status_as_json_is_the_whole_status(run, farm):
    job_id = failed(farm)
    printed = json.loads(run("status", job_id, "--json").stdout)
    assert printed == {**farm.job(job_id).status().model_dump(mode="json"), "webhook": None}


def test_status_shows_the_state_of_the_webhook(run, farm):
    farm_with_webhooks = Farm(
        settings=farm.context.settings.model_copy(update={"webhook_secret": (SECRET,)})
    )
    job = farm_with_webhooks.submit({**FIELDS, "webhook": "https://example.org/done"})
    assert "webhook" not in run("status", job.id).stdout
    job.cancel()
    assert run("status", job.id).stdout.splitlines()[-1] == "webhook: pending, attempts: 0"
    given_up = NotifyOutput(outcome="failed", attempts=9, reason="HTTP 500")
    complete(farm.context.registry, "notify", given_up, job_id=job.id)
    last_line = run("status", job.id).stdout.splitlines()[-1]
    assert last_line == "webhook: failed, attempts: 9, HTTP 500"
    assert json.loads(run("status", job.id, "--json").stdout)["webhook"] == {
        "state": "failed",
        "attempts": 9,
        "reason": "HTTP 500",
    }


@pytest.mark.parametrize("command", ["status", "watch", "result", "cancel"])
def test_an_unknown_job_is_one_line_and_status_2(run, command):
    assert error_line(run(command, "unknown")).startswith(
        "E_INPUT_VALIDATION: job_id: got 'unknown'"
    )


def test_watch_prints_events_until_the_job_ends(run, farm):
    result = run("watch", finished(farm))
    assert result.exit_code == 0
    assert "100.0 %  completed" in result.stderr
    assert "file:///" in result.stdout
    assert "note: the voice is longer" in result.stderr


def test_watch_of_a_failed_job_is_status_1(run, farm):
    result = run("watch", failed(farm))
    assert result.exit_code == 1
    assert "E_DOWNLOAD_FAILED: cond_video: 404" in result.stdout


def test_watch_play_first_prints_the_playlist(run, farm):
    job_id = finished(farm)
    farm.context.store.put(keys.playlist(job_id), b"#EXTM3U")
    assert run("watch", job_id, "--play").stdout.splitlines()[0] == farm.context.store.url(
        keys.playlist(job_id)
    )


def test_watch_play_waits_for_the_first_chunk(run, farm):
    job_id = farm.submit(FIELDS).id

    def grow() -> None:
        farm.context.store.put(keys.playlist(job_id), b"#EXTM3U")
        time.sleep(0.2)
        farm.job(job_id).cancel()

    with ThreadPoolExecutor() as pool:
        growing = pool.submit(lambda: (time.sleep(0.3), grow()))
        result = run("watch", job_id, "--play")
        growing.result()
    assert result.stdout.splitlines()[0] == farm.context.store.url(keys.playlist(job_id))


def test_watch_play_does_not_wait_for_a_job_that_ended_without_a_chunk(run, farm):
    result = run("watch", failed(farm), "--play")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (
        1,
        "error at downloads_started (0 %)",
    )


def test_result_prints_the_videos_url(run, farm):
    job_id = finished(farm)
    result = run("result", job_id)
    assert (result.exit_code, result.stdout) == (0, farm.context.store.url("jobs/video.mp4") + "\n")
    assert result.stderr == "note: the voice is longer\n"


def test_result_saves_the_video(run, farm, tmp_path):
    result = run("result", finished(farm), "-o", str(tmp_path / "out.mp4"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out.mp4'}\n")
    assert result.stderr == "note: the voice is longer\n"
    assert (tmp_path / "out.mp4").read_bytes() == b"the video"


@pytest.mark.parametrize("end", ["", "/"])
def test_result_saves_the_video_into_a_folder_by_its_own_name(run, farm, tmp_path, end):
    (tmp_path / "films").mkdir()
    result = run("result", finished(farm), "-o", f"{tmp_path}/films{end}")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/films/video.mp4\n")
    assert (tmp_path / "films" / "video.mp4").read_bytes() == b"the video"


def test_what_ends_as_a_folder_is_no_file(run, farm, tmp_path):
    line = error_line(run("result", finished(farm), "-o", f"{tmp_path}/films/"))
    assert f"output: got '{tmp_path}/films/'; allowed: a file in a writable folder (No such" in line
    line = error_line(run("payload", "-o", f"{tmp_path}/films/"))
    assert f"output: got '{tmp_path}/films/'; allowed: a file in a writable folder" in line
    assert not (tmp_path / "films").exists()


def test_result_into_a_missing_folder_is_one_line(run, farm, tmp_path):
    error_line(run("result", finished(farm), "-o", str(tmp_path / "missing" / "out.mp4")), status=2)


def test_result_as_json_is_the_contracts_object(run, farm):
    job_id = finished(farm)
    assert json.loads(run("result", job_id, "--json").stdout) == farm.job(
        job_id
    ).result().model_dump(mode="json")


def test_result_of_a_failed_job_prints_its_error_and_is_status_1(run, farm):
    assert error_line(run("result", failed(farm)), status=1) == "E_DOWNLOAD_FAILED: cond_video: 404"


def test_result_of_a_job_with_invalid_input_is_status_1_too(run, farm):
    job = farm.submit(FIELDS)
    farm.context.registry.jobs.fail(
        job.id, InvalidInput("cond_video: it is empty"), at_stage="download"
    )
    assert (
        error_line(run("result", job.id), status=1) == "E_INPUT_VALIDATION: cond_video: it is empty"
    )


def test_result_of_a_running_job_is_status_2(run, farm):
    assert "it has not ended, it is at queued (0 %)" in error_line(
        run("result", farm.submit(FIELDS).id)
    )


def test_cancel_ends_a_job_once(run, farm):
    job = farm.submit(FIELDS)
    assert run("cancel", job.id).stdout == "cancelled\n"
    assert run("cancel", job.id).stdout == "it had already ended: cancelled\n"


def test_cancel_of_many_jobs_prints_a_line_for_each(run, farm):
    first = farm.submit(FIELDS)
    second = farm.submit(FIELDS)
    second.cancel()
    lines = run("cancel", first.id, second.id).stdout.splitlines()
    assert lines == [f"{first.id}  cancelled", f"{second.id}  it had already ended: cancelled"]


def test_delete_asks_and_removes_jobs_that_go_on_too(run, farm):
    first, second = farm.submit(FIELDS), finished(farm)
    kept = run("delete", first.id, second, stdin="n\n")
    assert (kept.exit_code, len(farm.jobs())) == (1, 2)
    assert "delete 2 jobs, videos and uploads for good?" in kept.stderr
    printed = run("delete", first.id, second, stdin="y\n").stdout
    assert printed.splitlines() == [first.id, second]
    assert farm.jobs() == []


def test_delete_as_json_is_a_line_for_each_job_and_yes_does_not_ask(run, farm):
    job_id = finished(farm)
    printed = run("delete", job_id[:6], "--yes", "--json").stdout
    assert json.loads(printed) == {"job_id": job_id, "deleted": True}
    assert "there is no such job" in error_line(run("delete", job_id, "--yes"))


def test_jobs_are_listed_newest_first(run, farm):
    ids = [farm.submit(FIELDS).id for _ in range(3)]
    assert [line.split()[0] for line in run("jobs").stdout.splitlines()] == ["ID", *ids[::-1]]
    assert [line.split()[0] for line in run("jobs", "--limit", "1").stdout.splitlines()][1:] == ids[
        2:
    ]
    assert [
        json.loads(line)["job_id"] for line in run("jobs", "--json").stdout.splitlines()
    ] == ids[::-1]


def test_columns_stand_below_their_names(run, farm):
    job_id = farm.submit(FIELDS).id
    header, line = run("jobs").stdout.splitlines()
    column = {name[0]: name.start() for name in re.finditer(r"\S+( \S+)*", header)}
    assert line[column["ID"] :].startswith(job_id)
    assert line[column["STATE"] :].startswith("queued  ")
    assert line[column["TITLE"] :].startswith("a woman talks  ")
    assert line[column["NOW"] :] == "queued, next in the queue"


def test_many_jobs_cost_the_list_no_more_requests_than_one(run, farm):
    def requests_of_a_list() -> int:
        redis = farm.context.registry.backend.redis
        before = redis.info("stats")["total_commands_processed"]
        run("jobs")
        return redis.info("stats")["total_commands_processed"] - before

    farm.submit(FIELDS)
    for_one = requests_of_a_list()
    for _ in range(7):
        farm.submit(FIELDS)
    assert requests_of_a_list() == for_one <= 15


def test_jobs_of_all_callers_are_listed_or_those_of_one(run, farm):
    jobs = {name: farm.as_caller(name).submit(FIELDS).id for name in ("anna", "bob")}
    _, *lines = run("jobs").stdout.splitlines()
    callers = {line.split()[0]: line.split()[3] for line in lines}
    assert callers == {job_id: name for name, job_id in jobs.items()}
    (line,) = run("jobs", "--caller", "bob", "--json").stdout.splitlines()
    assert (json.loads(line)["job_id"], json.loads(line)["caller"]) == (jobs["bob"], "bob")


def test_the_operator_cancels_the_jobs_of_all_callers(run, farm):
    job = farm.as_caller("anna").submit(FIELDS)
    assert run("cancel", job.id).stdout == "cancelled\n"


def test_watch_as_json_is_a_line_for_each_event(run, farm):
    job_id = finished(farm)
    farm.context.store.put(keys.playlist(job_id), b"#EXTM3U")
    result = run("watch", job_id, "--json", "--play")
    playlist, *events = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (0, "")
    assert playlist == {"playlist": farm.context.store.url(keys.playlist(job_id))}
    assert events == [event.model_dump(mode="json") for event in farm.job(job_id).events()]
    assert run("watch", failed(farm), "--json").exit_code == 1


def test_cancel_as_json_is_a_line_for_each_job(run, farm):
    first = farm.submit(FIELDS)
    second = farm.submit(FIELDS)
    second.cancel()
    printed = run("cancel", first.id, second.id, "--json").stdout
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"job_id": first.id, "cancelled": True, "state": "cancelled"},
        {"job_id": second.id, "cancelled": False, "state": "cancelled"},
    ]


ESCAPES = "\x1b]0;PWNED\x07\x9b31m\u202e"


@pytest.mark.parametrize("as_json", [(), ("--json",)])
@pytest.mark.parametrize("command", ["status", "watch", "result", "jobs"])
def test_no_job_sends_escapes_to_the_terminal_of_an_operator(run, farm, command, as_json):
    settings = farm.context.settings.model_copy(update={"webhook_secret": (SECRET,)})
    job = Farm(settings=settings).submit({**FIELDS, "webhook": "https://example.org"})
    error = DownloadFailed(f"cond_video: {ESCAPES}", retryable=False)
    farm.context.registry.jobs.fail(job.id, error, at_stage=f"downloads_started{ESCAPES}")
    given_up = NotifyOutput(outcome="failed", attempts=9, reason=ESCAPES)
    complete(farm.context.registry, "notify", given_up, job_id=job.id)
    result = run(command, *([] if command == "jobs" else [job.id]), *as_json)
    assert job.id in result.output or "PWNED" in result.output
    assert not {each for each in ESCAPES if not each.isprintable()} & set(result.output)


def test_json_for_programs_keeps_what_a_caller_wrote(run, farm):
    job = farm.submit(FIELDS)
    error = DownloadFailed(f"{ESCAPES} ü", retryable=False)
    farm.context.registry.jobs.fail(job.id, error, at_stage="downloads_started")
    for command in ("status", "jobs"):
        arguments = [command, *([job.id] if command == "status" else []), "--json"]
        printed = json.loads(run(*arguments).stdout)
        assert printed["result"]["error"]["message"] == f"{ESCAPES} ü"


def test_a_row_of_a_batch_sends_no_escapes_to_the_terminal():
    console = Console(file=StringIO())
    with batch_progress(console, 1, done=0) as report:
        report("a", "error", f"E_DOWNLOAD_FAILED: {ESCAPES}", "1 error")
    assert console.file.getvalue().replace("\n", "").isprintable()


def test_a_line_sends_no_escapes_to_the_terminal(capsys):
    print_line("E_INPUT_VALIDATION: got \x1b]0;PWNED\x07\x9b; ü\n", "E_INPUT_VALIDATION")
    assert capsys.readouterr().out == "E_INPUT_VALIDATION: got \ufffd]0;PWNED\ufffd\ufffd; ü\n\n"
