"""The `farm` command: words in, words out, and an exit status that a script can trust."""

from __future__ import annotations

import base64
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from farm.cli import cli
from farm.client import Farm
from farm.errors import DownloadFailed, InvalidInput
from farm.job import Event, JobRequest
from farm.job import Result as Made
from farm.settings import Settings
from farm.store import keys
from tests.conftest import EXAMPLES
from tests.support.receiver import SECRET

Run = Callable[..., Result]
GIVEN: dict[str, Any] = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}
WORDS = ["--prompt", "a woman talks", "--image", GIVEN["cond_video"], "--audio", GIVEN["cond_audio"]["person1"]]


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """The farm that the commands talk to; nobody works in it."""
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker))


@pytest.fixture
def run(farm: Farm) -> Run:
    settings = farm.context.settings
    environ = {"FARM_HOME": str(settings.home), "FARM_BROKER_URL": settings.broker_url, "COLUMNS": "200"}

    def call(*words: str, said: str | None = None, **more: str) -> Result:
        return CliRunner().invoke(cli, words, input=said, env={**environ, **more})

    return call


def request_of(farm: Farm, result: Result) -> JobRequest:
    assert (result.exit_code, result.stderr) == (0, "")
    return farm.context.registry.jobs.request(result.stdout.strip())


def refused(result: Result, status: int = 2) -> str:
    """The one line that a refused command says."""
    assert (result.exit_code, result.stdout) == (status, "")
    (line,) = result.stderr.splitlines()
    return line


def failed(farm: Farm) -> str:
    job = farm.submit(GIVEN)
    farm.context.registry.jobs.fail(job.id, DownloadFailed("cond_video: 404", retryable=False), at_stage="downloads_started")
    return job.id


def finished(farm: Farm) -> str:
    job, registry, store = farm.submit(GIVEN), farm.context.registry, farm.context.store
    store.put("jobs/video.mp4", b"the video")
    lease = registry.steps.acquire(job.id, "mux", lease_s=60, max_attempts=3)
    assert lease
    registry.steps.commit(lease, {"video": "jobs/video.mp4"})
    video = {"url": store.url("jobs/video.mp4"), "bytes": 9, "thumbnail_url": "file:///thumbnail.jpg"}
    made = {"job_id": job.id, "status": "success", "video": video, "warnings": ("the voice is longer",)}
    registry.jobs.end(job.id, "success", Made.model_validate(made))
    return job.id


# Handing in


def test_submit_prints_the_jobs_id_and_nothing_else(run, farm):
    result = run("submit", *WORDS)
    assert result.stdout == f"{farm.jobs()[0].job_id}\n"
    assert request_of(farm, result) == JobRequest.parse(GIVEN)


@pytest.mark.parametrize("name", ["--image", "--video", "--cond-video"])
def test_the_face_may_be_named_as_what_it_is(run, farm, name):
    words = ["--prompt", "x", name, "https://example.org/a", "--text", "hello"]
    assert request_of(farm, run("submit", *words)).cond_video == "https://example.org/a"


def test_words_may_be_spoken_by_a_voice(run, farm):
    words = ["--prompt", "x", "--image", "https://example.org/a", "--text", "hello", "--voice", "en-us+f3"]
    spoken = request_of(farm, run("submit", *words)).tts_audio
    assert (spoken.text, spoken.human1_voice) == ("hello", "en-us+f3")


def test_every_field_of_the_contract_is_an_option_with_its_help(run):
    said = " ".join(run("submit", "--help").stdout.split())
    for name, field in JobRequest.model_fields.items():
        assert f"--{name.replace('_', '-')} VALUE" in said
        assert " ".join(field.description.split()) in said


def test_options_mean_what_the_contract_means(run, farm):
    words = ["--mode", "streaming", "--frame-num", "5", "--motion-frame", "1", "--sample-shift", "3.5"]
    request = request_of(farm, run("submit", *WORDS, *words, "--base-seed", "-1", "--negative-prompt", "5"))
    assert (request.mode, request.frame_num, request.motion_frame) == ("streaming", 5, 1)
    assert (request.sample_shift, request.negative_prompt) == (3.5, "5")
    assert request.base_seed >= 0


def test_a_wrong_value_is_one_line_and_status_2(run):
    line = refused(run("submit", *WORDS, "--sample-steps", "0"))
    assert line.startswith("E_INPUT_VALIDATION: sample_steps: got 0; ")


def test_a_value_that_is_no_number_is_named(run):
    assert "sample_steps: got 'many'" in refused(run("submit", *WORDS, "--sample-steps", "many"))


def test_a_missing_file_is_one_line_and_status_2(run):
    line = refused(run("submit", "--prompt", "x", "--image", "missing.png", "--text", "hello"))
    assert line.startswith("E_INPUT_VALIDATION: cond_video: got 'missing.png'; there is no such file")


def test_nothing_at_all_is_refused(run):
    assert refused(run("submit")).startswith("E_INPUT_VALIDATION: prompt: it is missing")


@pytest.mark.parametrize(
    ("words", "near"),
    [(["submit", "--sample-step", "3"], "--sample-steps"), (["submit", "--promt", "x"], "--prompt")],
    ids=["--sample-step", "--promt"],
)
def test_an_unknown_option_is_answered_with_the_nearest(run, words, near):
    result = run(*words)
    assert result.exit_code == 2
    assert near in result.stderr


def test_an_unknown_command_is_status_2(run):
    assert run("submitt").exit_code == 2


# Request files


def write(folder: Path, fields: Any) -> str:
    (folder / "request.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    return str(folder / "request.json")


def test_a_request_file_is_a_request(run, farm, tmp_path):
    assert request_of(farm, run("submit", "--request", write(tmp_path, GIVEN))) == JobRequest.parse(GIVEN)


def test_options_go_before_the_file(run, farm, tmp_path):
    result = run("submit", "--request", write(tmp_path, GIVEN), "--prompt", "another")
    assert request_of(farm, result).prompt == "another"


def test_paths_in_a_file_start_at_its_folder(run, farm, tmp_path, portrait, voice):
    (tmp_path / "face.png").write_bytes(portrait.read_bytes())
    (tmp_path / "voice.wav").write_bytes(voice.read_bytes())
    file = write(tmp_path, {"prompt": "x", "cond_video": "face.png", "cond_audio": {"person1": "./voice.wav"}})
    request = request_of(farm, run("submit", "--request", file))
    assert request.cond_video == keys.SCHEME + keys.upload(portrait)
    assert request.cond_audio.person1 == keys.SCHEME + keys.upload(voice)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is not JSON"),
        ("", "it is not JSON"),
        ('{"lora": ' + "[" * 100_000, "it is not JSON"),
        ("[]", "got list; allowed: one JSON object"),
        ('"x"', "got str; allowed"),
        ("{}", "prompt: it is missing"),
        ('{"prompt": "x", "cond_video": 5, "cond_audio": 7}', "cond_video: got 5"),
        ('{"prompt": "x", "cond_video": "face\\u0000.png", "tts_audio": {"text": "y"}}', "cond_video: got"),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_is_no_request_is_one_line_and_status_2(run, tmp_path, text, why):
    assert why in refused(run("submit", "--request", write(tmp_path, text)))


def test_a_file_that_is_no_text_is_one_line_and_status_2(run, portrait):
    assert "it is not JSON" in refused(run("submit", "--request", str(portrait)))


def test_a_request_file_that_is_missing_is_status_2(run):
    assert run("submit", "--request", "missing.json").exit_code == 2


def test_a_file_may_hold_a_short_base64(run, farm, tmp_path):
    file = write(tmp_path, {**GIVEN, "cond_video": "A" * 300})
    assert request_of(farm, run("submit", "--request", file)).cond_video.startswith("store://uploads/")


# Following


def test_status_says_where_a_job_stands(run, farm):
    job = farm.submit(GIVEN)
    assert run("status", job.id).stdout == "queued at queued (0 %)\n"


def test_status_of_a_failed_job_says_why_and_is_status_0(run, farm):
    result = run("status", failed(farm))
    assert result.exit_code == 0
    assert "E_DOWNLOAD_FAILED: cond_video: 404" in result.stdout


def test_status_as_json_is_the_whole_of_it(run, farm):
    job_id = failed(farm)
    told = json.loads(run("status", job_id, "--json").stdout)
    assert told == {**farm.job(job_id).status().model_dump(mode="json"), "webhook": None}


def test_status_says_what_became_of_the_webhook(run, farm):
    knowing = Farm(settings=farm.context.settings.model_copy(update={"webhook_secret": (SECRET,)}))
    job = knowing.submit({**GIVEN, "webhook": "https://example.org/done"})
    assert "webhook" not in run("status", job.id).stdout
    job.cancel()
    assert run("status", job.id).stdout.splitlines()[-1] == "webhook: waiting, tried 0 times"
    lease = farm.context.registry.steps.acquire(job.id, "notify", lease_s=60, max_attempts=3)
    farm.context.registry.steps.commit(lease, {"outcome": "given up", "tries": 9, "reason": "answered 500"})
    assert run("status", job.id).stdout.splitlines()[-1] == "webhook: given up, tried 9 times, answered 500"
    assert json.loads(run("status", job.id, "--json").stdout)["webhook"] == {
        "state": "given up",
        "tries": 9,
        "reason": "answered 500",
    }


@pytest.mark.parametrize("command", ["status", "watch", "result", "cancel"])
def test_an_unknown_job_is_one_line_and_status_2(run, command):
    assert refused(run(command, "nobody")).startswith("E_INPUT_VALIDATION: job_id: got 'nobody'")


def test_watch_shows_events_and_ends_with_the_job(run, farm):
    result = run("watch", finished(farm))
    assert result.exit_code == 0
    assert "100.0 %  completed" in result.stderr
    assert "file:///" in result.stdout
    assert "note: the voice is longer" in result.stdout


def test_watch_of_a_failed_job_is_status_1(run, farm):
    result = run("watch", failed(farm))
    assert result.exit_code == 1
    assert "E_DOWNLOAD_FAILED: cond_video: 404" in result.stdout


def test_watch_first_says_where_the_video_grows(run, farm):
    job_id = finished(farm)
    farm.context.store.put(keys.playlist(job_id), b"#EXTM3U")
    assert run("watch", job_id, "--play").stdout.splitlines()[0] == farm.context.store.url(keys.playlist(job_id))


def test_watch_waits_for_the_first_chunk(run, farm):
    job_id = farm.submit(GIVEN).id

    def grow() -> None:
        farm.context.store.put(keys.playlist(job_id), b"#EXTM3U")
        time.sleep(0.2)
        farm.job(job_id).cancel()

    with ThreadPoolExecutor() as pool:
        growing = pool.submit(lambda: (time.sleep(0.3), grow()))
        result = run("watch", job_id, "--play")
        growing.result()
    assert result.stdout.splitlines()[0] == farm.context.store.url(keys.playlist(job_id))


def test_watch_of_a_job_that_ended_before_its_first_chunk_waits_for_none(run, farm):
    result = run("watch", failed(farm), "--play")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, "error at downloads_started (0 %)")


def test_result_prints_where_the_video_lies(run, farm):
    job_id = finished(farm)
    result = run("result", job_id)
    assert (result.exit_code, result.stdout) == (0, farm.context.store.url("jobs/video.mp4") + "\n")


def test_result_writes_the_video(run, farm, tmp_path):
    result = run("result", finished(farm), "-o", str(tmp_path / "out.mp4"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out.mp4'}\n")
    assert (tmp_path / "out.mp4").read_bytes() == b"the video"


def test_result_into_a_folder_that_is_missing_is_one_line(run, farm, tmp_path):
    refused(run("result", finished(farm), "-o", str(tmp_path / "missing" / "out.mp4")), status=2)


def test_result_as_json_is_the_contracts_object(run, farm):
    job_id = finished(farm)
    assert json.loads(run("result", job_id, "--json").stdout) == farm.job(job_id).result().model_dump(mode="json")


def test_result_of_a_failed_job_is_its_error_and_status_1(run, farm):
    assert refused(run("result", failed(farm)), status=1) == "E_DOWNLOAD_FAILED: cond_video: 404"


def test_result_of_a_job_whose_input_was_wrong_is_status_1_too(run, farm):
    job = farm.submit(GIVEN)
    farm.context.registry.jobs.fail(job.id, InvalidInput("cond_video: it is empty"), at_stage="download")
    assert refused(run("result", job.id), status=1) == "E_INPUT_VALIDATION: cond_video: it is empty"


def test_result_of_a_job_that_goes_on_is_status_2(run, farm):
    assert "it has not ended, it is at queued (0 %)" in refused(run("result", farm.submit(GIVEN).id))


def test_cancel_ends_a_job_once(run, farm):
    job = farm.submit(GIVEN)
    assert run("cancel", job.id).stdout == "cancelled\n"
    assert run("cancel", job.id).stdout == "it had ended already: cancelled\n"


def test_cancel_ends_many_jobs_and_says_which(run, farm):
    first, second = farm.submit(GIVEN), farm.submit(GIVEN)
    second.cancel()
    said = run("cancel", first.id, second.id).stdout.splitlines()
    assert said == [f"{first.id}  cancelled", f"{second.id}  it had ended already: cancelled"]


def test_jobs_are_listed_newest_first(run, farm):
    ids = [farm.submit(GIVEN).id for _ in range(3)]
    assert [line.split()[0] for line in run("jobs").stdout.splitlines()] == ids[::-1]
    assert [line.split()[0] for line in run("jobs", "--limit", "1").stdout.splitlines()] == ids[2:]
    assert [json.loads(line)["job_id"] for line in run("jobs", "--json").stdout.splitlines()] == ids[::-1]


def test_recover_says_what_became_of_each_job(run, farm):
    # given a job that goes on and one that was cancelled, of which the broker then knows nothing
    first, second = sorted(farm.submit(GIVEN).id for _ in range(2))
    run("cancel", second)
    with farm.context.registry.backend.redis as client:
        client.flushall()
    # then both are entered again, once
    lines = [f"{first}  goes on     download", f"{second}  had ended   cancelled"]
    result = run("recover")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [*lines, "jobs in the store: 1 goes on, 1 had ended"]
    assert run("recover").stdout.splitlines() == [
        f"{first}  known",
        f"{second}  known",
        "jobs in the store: 2 known",
    ]
    assert run("cancel", first).stdout == "cancelled\n"


def test_recover_as_json_is_a_line_for_each_job(run, farm):
    job = farm.submit(GIVEN)
    (line,) = run("recover", "--json").stdout.splitlines()
    assert json.loads(line) == {"job_id": job.id, "outcome": "known", "reason": None, "kept": 0}


def test_recover_of_an_empty_store_says_so(run):
    assert run("recover").stdout == "jobs in the store: none\n"


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's temporary folder holds no other farm's leavings."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("empty_machine")
def test_gc_says_what_it_would_remove_and_then_removes_it(run, farm):
    job = farm.submit(GIVEN)
    farm.context.store.put(keys.attempt(job.id, "download", 1, "goods"), bytes(2_000_000))
    job.cancel()
    at_once = {"FARM_KEEP_INTERMEDIATES_S": "0"}
    line = f"intermediate      1       2.000 MB  jobs/{job.id}/"
    told = [run("gc", *words, **at_once).stdout.splitlines() for words in (["--dry-run"], [], [])]
    assert told == [
        [line, "would remove      1       2.000 MB"],
        [line, "removed           1       2.000 MB"],
        ["removed           0       0.000 MB"],
    ]


@pytest.mark.usefixtures("empty_machine")
def test_gc_as_json_is_a_line_for_each_thing(run, farm):
    job = farm.submit(GIVEN)
    farm.context.store.put(keys.attempt(job.id, "download", 1, "goods"), b"goods")
    job.cancel()
    (line,) = run("gc", "--json", FARM_KEEP_INTERMEDIATES_S="0").stdout.splitlines()
    assert json.loads(line) == {"reason": "intermediate", "name": f"jobs/{job.id}/", "objects": 1, "bytes": 5}


# Payloads


def payload(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_payload_is_what_was_said_and_nothing_else(run, farm):
    assert payload(run("payload", *WORDS, "--frame-num", "41")) == {**GIVEN, "frame_num": 41}
    assert farm.jobs() == []


def test_files_go_along_in_a_payload(run, portrait, voice):
    words = ["--prompt", "x", "--image", str(portrait), "--audio", str(voice)]
    fields = payload(run("payload", *words, FARM_BROKER_URL="redis://127.0.0.1:1/0"))
    head, _, body = fields["cond_video"].partition(",")
    assert (head, base64.b64decode(body)) == ("data:image/png;base64", portrait.read_bytes())
    assert base64.b64decode(fields["cond_audio"]["person1"].partition(",")[2]) == voice.read_bytes()
    assert JobRequest.parse(fields).cond_video == fields["cond_video"]


def test_a_payload_of_a_file_starts_at_its_folder(run, tmp_path, portrait, voice):
    fields = payload(run("payload", "--request", str(portrait.parent / "single_image.json")))
    assert fields["cond_video"].startswith("data:image/png;base64,")


def test_files_may_be_put_into_the_store_instead(run, farm, portrait):
    words = ["--prompt", "x", "--image", str(portrait), "--text", "hello", "--upload"]
    source = payload(run("payload", *words, FARM_BROKER_URL="redis://127.0.0.1:1/0"))["cond_video"]
    assert farm.context.store.get(source.removeprefix(keys.SCHEME)) == portrait.read_bytes()


def test_an_envelope_holds_the_request_and_limits_in_milliseconds(run):
    assert payload(run("payload", *WORDS, "--envelope")) == {"input": GIVEN}
    assert payload(run("payload", *WORDS, "--execution-s", "600", "--ttl-s", "3600")) == {
        "input": GIVEN,
        "policy": {"executionTimeout": 600_000, "ttl": 3_600_000},
    }


def test_a_payload_is_written_to_a_file(run, tmp_path):
    result = run("payload", *WORDS, "-o", str(tmp_path / "request.json"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((tmp_path / "request.json").read_text()) == GIVEN


@pytest.mark.parametrize(
    "words", [["--sample-steps", "0"], ["--image", "missing.png"], ["-o", "/missing/request.json"]]
)
def test_a_payload_that_would_be_refused_is_not_printed(run, words):
    given = [word for word in WORDS if word not in ("--image", GIVEN["cond_video"])] if "--image" in words else WORDS
    refused(run("payload", *given, *words))


def test_a_payload_that_nobody_could_write_down_is_not_uploaded(run, farm, portrait):
    words = ["--prompt", "x", "--image", str(portrait), "--text", "hello", "--upload", "-o", "/missing/request.json"]
    assert "output: got '/missing/request.json'" in refused(run("payload", *words))
    assert list(farm.context.store.keys("")) == []


def test_a_face_that_is_no_picture_is_not_printed(run, voice):
    words = ["--prompt", "x", "--image", str(voice), "--text", "hello"]
    assert "cond_video" in refused(run("payload", *words))


@pytest.mark.parametrize(("name", "said"), [("batch.json", "farm batch run"), ("envelope.json", "under input")])
def test_a_file_of_something_else_than_a_request_says_what_it_is(run, tmp_path, name, said):
    (tmp_path / "envelope.json").write_text(json.dumps({"input": GIVEN, "policy": {"ttl": 10_000}}))
    shutil.copy(EXAMPLES / "batch.json", tmp_path)
    assert said in refused(run("submit", "--request", str(tmp_path / name)))


def test_a_payload_can_be_piped(run, portrait):
    payload = run("payload", "--prompt", "x", "--image", str(portrait), "--text", "hello").stdout
    said = run("submit", "--request", "-", "--json", said=payload)
    assert json.loads(said.stdout)["state"] == "queued"


def test_a_voice_without_words_is_refused(run, portrait):
    words = ["--prompt", "x", "--image", str(portrait), "--voice", "en-us+f3"]
    assert "--voice: got 'en-us+f3' without --text" in refused(run("submit", *words))


def test_a_job_may_not_end_before_it_may_run(run, portrait):
    words = ["--prompt", "x", "--image", str(portrait), "--text", "hello", "--execution-s", "30", "--ttl-s", "20"]
    assert "ttl_s: got 20; allowed: no less than execution_s, 30" in refused(run("payload", *words))


def film(path: Path, megabytes: float) -> str:
    """The examples' film, in a file of another size."""
    content = (EXAMPLES / "sitter.mp4").read_bytes()
    path.write_bytes(content + bytes(int(megabytes * 1e6) - len(content)))
    return str(path)


def test_an_envelope_that_run_does_not_take_is_said_so(run, tmp_path):
    words = ["--prompt", "x", "--video", film(tmp_path / "film.mp4", 9), "--text", "hello"]
    result = run("payload", *words, "--envelope")
    assert result.exit_code == 0
    assert result.stderr == (
        "note: it has 12.0 MB; Runpod's /run takes 10 MB and /runsync 20 MB; name files by URL, or --upload them\n"
    )


def test_an_envelope_that_nobody_takes_is_refused(run, tmp_path):
    words = ["--prompt", "x", "--video", film(tmp_path / "film.mp4", 16), "--text", "hello"]
    assert "request: it has 21.3 MB; Runpod's /run" in refused(run("payload", *words, "--envelope"))
    assert len(payload(run("payload", *words))["cond_video"]) > 21e6


# For machines


def test_submit_as_json_is_the_jobs_status(run, farm):
    status = json.loads(run("submit", *WORDS, "--json").stdout)
    assert status == farm.job(status["job_id"]).status().model_dump(mode="json")


def test_submit_as_json_waits_for_the_last_status(run):
    words = ["--prompt", "x", "--image", "store://uploads/" + "0" * 64, "--text", "hello"]
    result = run("submit", "--here", "--json", *words)
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout)["result"]["error"]["code"] == "E_DOWNLOAD_FAILED"


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
    first, second = farm.submit(GIVEN), farm.submit(GIVEN)
    second.cancel()
    said = [json.loads(line) for line in run("cancel", first.id, second.id, "--json").stdout.splitlines()]
    assert said == [
        {"job_id": first.id, "cancelled": True, "state": "cancelled"},
        {"job_id": second.id, "cancelled": False, "state": "cancelled"},
    ]


def test_a_dry_run_as_json_is_a_line_for_each_row(run, table):
    result = run("batch", "run", str(table), "--dry-run", "--json")
    files, urls, wrong = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (2, "")
    assert {**files, "gpu_s": round(files["gpu_s"])} == {
        "line": 2,
        "id": "files",
        "frames": 224,
        "chunks": 3,
        "gpu_s": 1426,
    }
    assert urls == {"line": 3, "id": "urls", "frames": None, "chunks": None, "gpu_s": None}
    assert (wrong["id"], wrong["code"]) == ("wrong", "E_INPUT_VALIDATION")


def test_a_batch_as_json_is_a_line_for_itself_and_one_for_each_row(run, table, tmp_path):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    out = tmp_path / "results.csv"
    result = run("batch", "run", str(table), "--out", str(out), "--json")
    begun, wrong = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (1, "")
    assert begun == {"batch": begun["batch"], "rows": 1, "done": 0, "results": str(out)}
    assert (wrong["id"], wrong["status"], wrong["code"]) == ("wrong", "invalid", "E_INPUT_VALIDATION")
    assert run("batch", "watch", begun["batch"], "--json").stdout == result.stdout


def test_weights_as_json_are_a_line_for_each_part(run):
    parts = [json.loads(line) for line in run("weights", "check", "miniature", "--json").stdout.splitlines()]
    assert "transformer" in {part["part"] for part in parts}
    assert all(part["tensors"] > 0 and part["bytes"] > 0 for part in parts)


# For people


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command by the words that call it, groups among them."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("words", list(commands(cli)), ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(words):
    result = CliRunner().invoke(cli, [*words, "--help"], env={"COLUMNS": "200", "FARM_BROKER_URL": None})
    assert result.exit_code == 0
    assert f"Example: farm {' '.join(words)}" in result.stdout


def at_a_terminal(*words: str, **environ: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "farm", *words]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**kept, "TERM": "xterm", **environ}) as process:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # its end, on Linux
            while part := os.read(ours, 1024):
                said += part
    os.close(ours)
    assert process.returncode == 0
    return said.decode()


RED = "\x1b[31m"


def test_a_terminal_shows_states_in_colour_and_a_pipe_does_not(run, farm):
    failed(farm)
    settings = farm.context.settings
    environ = {"FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    assert f"{RED}error" in at_a_terminal("jobs", **environ)
    assert RED not in at_a_terminal("jobs", **environ, NO_COLOR="1")
    assert "\x1b" not in run("jobs").stdout


def test_a_pipe_gets_lines_and_no_bar(run, farm):
    result = run("watch", finished(farm))
    assert "\x1b" not in result.output
    assert "\r" not in result.output


def test_a_command_that_is_broken_off_is_status_130_and_its_job_goes_on(farm):
    job, settings = farm.submit(GIVEN), farm.context.settings
    farm.context.registry.jobs.report(Event(stage="validation_started", pct=0, job_id=job.id))
    environ = {**os.environ, "FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    command = [sys.executable, "-m", "farm", "watch", job.id]
    # As from a shell, though these tests may have been started in the background, where Ctrl-C is ignored.
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, preexec_fn=listens) as watching:
        assert "validation_started" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        said = watching.stderr.read()
    assert watching.returncode == 130
    assert said == f"job {job.id} goes on; `farm watch {job.id}` follows it, `farm cancel {job.id}` ends it\n"
    assert job.status().state == "running"


# Batches


@pytest.fixture
def table(tmp_path: Path, portrait: Path, voice: Path) -> Path:
    """A good row of files, one of URLs, and one that asks for too much."""
    rows = [
        ("id", "prompt", "cond_video", "cond_audio.person1", "mode", "sample_steps"),
        ("files", "a woman talks", str(portrait), str(voice), "streaming", "40"),
        ("urls", "a woman talks", GIVEN["cond_video"], GIVEN["cond_audio"]["person1"], "", ""),
        ("wrong", "a woman talks", str(portrait), str(voice), "", "5000"),
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(",".join(row) for row in rows))
    return tmp_path / "jobs.csv"


def test_a_dry_run_checks_every_row_and_says_what_it_takes(run, farm, table):
    said = run("batch", "run", str(table), "--dry-run")
    files, urls, wrong, total = said.stdout.splitlines()
    assert said.exit_code == 2
    assert files.split() == ["2", "files", "224", "frames", "3", "chunks", "1426", "s"]
    assert urls.endswith("not known before its sound is here")
    assert "wrong  " in wrong
    assert "sample_steps: got 5000" in wrong
    assert total == "3 rows: 2 good, 1 invalid; about 0.4 hours of one H100 without 1 that are not known"
    assert farm.jobs() == []


def test_a_dry_run_of_good_rows_is_status_0(run, table):
    table.write_text("\n".join(table.read_text().splitlines()[:3]))
    assert run("batch", "run", str(table), "--dry-run").exit_code == 0


def test_a_batch_is_run_and_gone_on_with(run, farm, table, tmp_path):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    out = tmp_path / "results.csv"
    first = run("batch", "run", str(table), "--out", str(out))
    batch_id, total = first.stdout.splitlines()
    assert (first.exit_code, total) == (1, f"1 rows: 1 invalid rows; {out}")
    assert first.stderr.startswith("invalid    wrong  E_INPUT_VALIDATION: sample_steps: got 5000")
    assert run("batch", "watch", batch_id).stdout == first.stdout


def test_a_batch_fails_as_long_as_a_row_of_its_file_has_no_video(run, farm, table, tmp_path):
    out, good = tmp_path / "results.csv", table.read_text()
    out.write_text("id,status,job_id,url,seed,gpu_s,code,message,batch\n")
    table.write_text("\n".join(good.splitlines()[::3]))
    batch_id = run("batch", "run", str(table), "--out", str(out)).stdout.split()[0]
    # given videos of rows that the file holds no more
    with out.open("a") as file:
        file.writelines(f"{name},success,,,,,,,{batch_id}\n" for name in ("gone", "gone too"))
    assert run("batch", "run", str(table), "--out", str(out)).exit_code == 1


def test_a_batch_that_nobody_knows_is_one_line_and_status_2(run):
    assert "there is no such batch" in refused(run("batch", "watch", "1234"))


def test_a_misspelt_column_is_one_line_and_status_2(run, table, farm):
    table.write_text(table.read_text().replace("prompt", "promt"))
    assert "did you mean prompt?" in refused(run("batch", "run", str(table)))
    assert farm.jobs() == []


# No farm


@pytest.mark.parametrize(
    ("address", "why"), [("0.0.0.0:5555", "0.0.0.0, which other machines can reach"), ("5555", "allowed: ADDRESS:PORT")]
)
def test_a_flower_that_may_not_be_is_one_line_and_status_2(run, farm, address, why):
    result = run("up", "--flower", address)
    assert result.exit_code == 2
    assert result.stderr.startswith("E_INPUT_VALIDATION: flower: got ")
    assert why in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["jobs"], ["status", "a"], ["submit", *WORDS]], ids=lambda words: words[0])
def test_a_broker_that_does_not_answer_is_one_line_and_status_3(run, words):
    line = refused(run(*words, FARM_BROKER_URL="redis://:secret@127.0.0.1:1/0"), status=3)
    assert line.startswith("E_UNREACHABLE: no broker answers at 127.0.0.1:1; is the farm up?")


def test_a_home_without_a_farm_is_one_line_and_status_3(tmp_path):
    result = CliRunner().invoke(cli, ["jobs"], env={"FARM_HOME": str(tmp_path), "FARM_BROKER_URL": None})
    assert "no farm is up in" in refused(result, status=3)


def test_a_misspelt_variable_is_one_line_and_status_2(run):
    assert "did you mean FARM_LEASE_S?" in refused(run("jobs", FARM_LEASES_S="3"))


@pytest.mark.parametrize(
    "url",
    [
        "amqp://host",
        "redis://host:port/0",
    ],
)
def test_a_wrong_address_is_one_line_and_status_2(run, url):
    assert "FARM_BROKER_URL" in refused(run("jobs", FARM_BROKER_URL=url))


def test_help_and_version_need_no_farm():
    for words in (["--help"], ["-h"], ["--version"], ["submit", "-h"]):
        assert CliRunner().invoke(cli, words, env={"FARM_BROKER_URL": None}).exit_code == 0


# In this process


def test_a_job_that_fails_here_is_status_1_and_says_why(run, farm):
    result = run("submit", "--here", "--prompt", "x", "--image", "store://uploads/" + "0" * 64, "--text", "hello")
    assert result.exit_code == 1
    assert "downloads_started" in result.stderr
    assert "E_DOWNLOAD_FAILED: cond_video: the store holds no uploads/0000" in result.stdout
    assert farm.jobs() == []


def test_metrics_prints_the_numbers_once(run, farm):
    farm.submit(GIVEN)
    result = run("metrics", "--once")
    assert result.exit_code == 0
    assert "farm_live_jobs 1.0\n" in result.output
    assert "# HELP farm_queue_length messages that wait" in result.output


def test_metrics_are_served_nowhere_without_an_address(run):
    result = run("metrics")
    assert result.exit_code == 2
    assert result.stderr == "E_INPUT_VALIDATION: FARM_METRICS_ADDRESS: not set; allowed: PORT or HOST:PORT\n"


def test_metrics_say_that_their_port_is_taken(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("metrics", FARM_METRICS_ADDRESS=address)
    assert result.exit_code == 2
    assert f"FARM_METRICS_ADDRESS: got '{address}'; Address already in use" in result.stderr
