"""The `farm` command: its options, its output and its exit status."""

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
from farm.job import Result as JobResult
from farm.registry.outputs import Committed, MuxOutput, NotifyOutput, StepOutput
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
OPTIONS = [
    *("--prompt", "a woman talks"),
    *("--image", GIVEN["cond_video"]),
    *("--audio", GIVEN["cond_audio"]["person1"]),
]


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """The farm that the commands talk to; it has no workers."""
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker))


@pytest.fixture
def run(farm: Farm) -> Run:
    settings = farm.context.settings
    environ = {
        "FARM_HOME": str(settings.home),
        "FARM_BROKER_URL": settings.broker_url,
        "COLUMNS": "200",
    }

    def call(*args: str, stdin: str | None = None, **variables: str) -> Result:
        return CliRunner().invoke(cli, args, input=stdin, env={**environ, **variables})

    return call


def request_of(farm: Farm, result: Result) -> JobRequest:
    """The request of the job whose id a command printed."""
    assert (result.exit_code, result.stderr) == (0, "")
    return farm.context.registry.jobs.request(result.stdout.strip())


def error_line(result: Result, status: int = 2) -> str:
    """The one line that a rejected command prints."""
    assert (result.exit_code, result.stdout) == (status, "")
    (line,) = result.stderr.splitlines()
    return line


def failed(farm: Farm) -> str:
    """The id of a job that failed."""
    job = farm.submit(GIVEN)
    farm.context.registry.jobs.fail(
        job.id, DownloadFailed("cond_video: 404", retryable=False), at_stage="downloads_started"
    )
    return job.id


def finished(farm: Farm) -> str:
    """The id of a job with a video."""
    job = farm.submit(GIVEN)
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
    commit(farm, job.id, "mux", MuxOutput(result=result, video_key="jobs/video.mp4"))
    farm.context.registry.jobs.end(job.id, "success", result)
    return job.id


def commit(farm: Farm, job_id: str, step_id: str, output: StepOutput) -> None:
    steps = farm.context.registry.steps
    lease = steps.acquire(job_id, step_id, lease_s=60, max_attempts=3)
    assert lease
    steps.commit(lease, Committed(output=output, timings={}, fence=lease.fence, inputs={}))


# Submitting


def test_submit_prints_only_the_jobs_id(run, farm):
    result = run("submit", *OPTIONS)
    assert result.stdout == f"{farm.jobs()[0].job_id}\n"
    assert request_of(farm, result) == JobRequest.parse(GIVEN)


@pytest.mark.parametrize("name", ["--image", "--video", "--cond-video"])
def test_the_face_can_be_given_as_an_image_or_a_video(run, farm, name):
    args = ["--prompt", "x", name, "https://example.org/a", "--text", "hello"]
    assert request_of(farm, run("submit", *args)).cond_video == "https://example.org/a"


def test_a_text_is_spoken_by_a_voice(run, farm):
    args = [
        "--prompt",
        "x",
        "--image",
        "https://example.org/a",
        "--text",
        "hello",
        "--voice",
        "en-us+f3",
    ]
    spoken = request_of(farm, run("submit", *args)).tts_audio
    assert (spoken.text, spoken.human1_voice) == ("hello", "en-us+f3")


def test_every_field_of_the_contract_is_an_option_with_its_description(run):
    help_text = " ".join(run("submit", "--help").stdout.split())
    for name, field in JobRequest.model_fields.items():
        assert f"--{name.replace('_', '-')} VALUE" in help_text
        assert " ".join(field.description.split()) in help_text


def test_options_are_parsed_as_the_contracts_types(run, farm):
    args = [
        "--mode",
        "streaming",
        "--frame-num",
        "5",
        "--motion-frame",
        "1",
        "--sample-shift",
        "3.5",
    ]
    request = request_of(
        farm, run("submit", *OPTIONS, *args, "--base-seed", "-1", "--negative-prompt", "5")
    )
    assert (request.mode, request.frame_num, request.motion_frame) == ("streaming", 5, 1)
    assert (request.sample_shift, request.negative_prompt) == (3.5, "5")
    assert request.base_seed >= 0


def test_an_invalid_value_is_one_line_and_status_2(run):
    line = error_line(run("submit", *OPTIONS, "--sample-steps", "0"))
    assert line.startswith("E_INPUT_VALIDATION: sample_steps: got 0; ")


def test_a_value_that_is_not_a_number_is_named(run):
    assert "sample_steps: got 'many'" in error_line(
        run("submit", *OPTIONS, "--sample-steps", "many")
    )


def test_a_missing_file_is_one_line_and_status_2(run):
    line = error_line(run("submit", "--prompt", "x", "--image", "missing.png", "--text", "hello"))
    assert line.startswith(
        "E_INPUT_VALIDATION: cond_video: got 'missing.png'; there is no such file"
    )


def test_submitting_nothing_is_rejected(run):
    assert error_line(run("submit")).startswith("E_INPUT_VALIDATION: prompt: it is missing")


@pytest.mark.parametrize(
    ("args", "suggestion"),
    [
        (["submit", "--sample-step", "3"], "--sample-steps"),
        (["submit", "--promt", "x"], "--prompt"),
    ],
    ids=["--sample-step", "--promt"],
)
def test_an_unknown_option_is_answered_with_the_closest_one(run, args, suggestion):
    result = run(*args)
    assert result.exit_code == 2
    assert suggestion in result.stderr


def test_an_unknown_command_is_status_2(run):
    assert run("submitt").exit_code == 2


# Request files


def write(folder: Path, fields: Any) -> str:
    (folder / "request.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    return str(folder / "request.json")


def test_a_request_file_is_submitted(run, farm, tmp_path):
    assert request_of(farm, run("submit", "--request", write(tmp_path, GIVEN))) == JobRequest.parse(
        GIVEN
    )


def test_options_override_the_file(run, farm, tmp_path):
    result = run("submit", "--request", write(tmp_path, GIVEN), "--prompt", "another")
    assert request_of(farm, result).prompt == "another"


def test_paths_in_a_file_are_relative_to_its_folder(run, farm, tmp_path, portrait, voice):
    (tmp_path / "face.png").write_bytes(portrait.read_bytes())
    (tmp_path / "voice.wav").write_bytes(voice.read_bytes())
    file = write(
        tmp_path,
        {"prompt": "x", "cond_video": "face.png", "cond_audio": {"person1": "./voice.wav"}},
    )
    request = request_of(farm, run("submit", "--request", file))
    assert request.cond_video == keys.SCHEME + keys.upload(portrait)
    assert request.cond_audio.person1 == keys.SCHEME + keys.upload(voice)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "it is not JSON"),
        ("", "it is not JSON"),
        ('{"lora": ' + "[" * 100_000, "it is not JSON"),
        ("[]", "got list; allowed: one JSON object"),
        ('"x"', "got str; allowed"),
        ("{}", "prompt: it is missing"),
        ('{"prompt": "x", "cond_video": 5, "cond_audio": 7}', "cond_video: got 5"),
        (
            '{"prompt": "x", "cond_video": "face\\u0000.png", "tts_audio": {"text": "y"}}',
            "cond_video: got",
        ),
    ],
    ids=lambda text: text[:20],
)
def test_an_invalid_request_file_is_one_line_and_status_2(run, tmp_path, text, reason):
    assert reason in error_line(run("submit", "--request", write(tmp_path, text)))


def test_a_binary_request_file_is_one_line_and_status_2(run, portrait):
    assert "it is not JSON" in error_line(run("submit", "--request", str(portrait)))


def test_a_missing_request_file_is_status_2(run):
    assert run("submit", "--request", "missing.json").exit_code == 2


def test_a_request_file_can_contain_base64(run, farm, tmp_path):
    file = write(tmp_path, {**GIVEN, "cond_video": "A" * 300})
    assert request_of(farm, run("submit", "--request", file)).cond_video.startswith(
        "store://uploads/"
    )


# Following


def test_status_prints_the_state_and_the_stage(run, farm):
    job = farm.submit(GIVEN)
    assert run("status", job.id).stdout == "queued at queued (0 %)\n"


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
    job = farm_with_webhooks.submit({**GIVEN, "webhook": "https://example.org/done"})
    assert "webhook" not in run("status", job.id).stdout
    job.cancel()
    assert run("status", job.id).stdout.splitlines()[-1] == "webhook: waiting, tried 0 times"
    commit(farm, job.id, "notify", NotifyOutput(outcome="gave_up", tries=9, reason="answered 500"))
    last_line = run("status", job.id).stdout.splitlines()[-1]
    assert last_line == "webhook: gave up, tried 9 times, answered 500"
    assert json.loads(run("status", job.id, "--json").stdout)["webhook"] == {
        "state": "gave_up",
        "tries": 9,
        "reason": "answered 500",
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
    assert "note: the voice is longer" in result.stdout


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


def test_result_saves_the_video(run, farm, tmp_path):
    result = run("result", finished(farm), "-o", str(tmp_path / "out.mp4"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out.mp4'}\n")
    assert (tmp_path / "out.mp4").read_bytes() == b"the video"


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
    job = farm.submit(GIVEN)
    farm.context.registry.jobs.fail(
        job.id, InvalidInput("cond_video: it is empty"), at_stage="download"
    )
    assert (
        error_line(run("result", job.id), status=1) == "E_INPUT_VALIDATION: cond_video: it is empty"
    )


def test_result_of_a_running_job_is_status_2(run, farm):
    assert "it has not ended, it is at queued (0 %)" in error_line(
        run("result", farm.submit(GIVEN).id)
    )


def test_cancel_ends_a_job_once(run, farm):
    job = farm.submit(GIVEN)
    assert run("cancel", job.id).stdout == "cancelled\n"
    assert run("cancel", job.id).stdout == "it had already ended: cancelled\n"


def test_cancel_of_many_jobs_prints_a_line_for_each(run, farm):
    first = farm.submit(GIVEN)
    second = farm.submit(GIVEN)
    second.cancel()
    lines = run("cancel", first.id, second.id).stdout.splitlines()
    assert lines == [f"{first.id}  cancelled", f"{second.id}  it had already ended: cancelled"]


def test_jobs_are_listed_newest_first(run, farm):
    ids = [farm.submit(GIVEN).id for _ in range(3)]
    assert [line.split()[0] for line in run("jobs").stdout.splitlines()] == ids[::-1]
    assert [line.split()[0] for line in run("jobs", "--limit", "1").stdout.splitlines()] == ids[2:]
    assert [
        json.loads(line)["job_id"] for line in run("jobs", "--json").stdout.splitlines()
    ] == ids[::-1]


def test_recover_prints_the_outcome_of_each_job(run, farm):
    # given a live job and a cancelled one, both lost by the broker
    first, second = sorted(farm.submit(GIVEN).id for _ in range(2))
    run("cancel", second)
    with farm.context.registry.backend.redis as client:
        client.flushall()
    # then both are restored, once
    lines = [f"{first}  resumed        download", f"{second}  already_ended  cancelled"]
    result = run("recover")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [*lines, "jobs in the store: 1 already_ended, 1 resumed"]
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


def test_recover_of_an_empty_store_prints_none(run):
    assert run("recover").stdout == "jobs in the store: none\n"


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder without the scratch folders of other farms."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("empty_machine")
def test_gc_lists_with_dry_run_and_then_removes(run, farm):
    job = farm.submit(GIVEN)
    farm.context.store.put(keys.attempt(job.id, "download", 1, "image"), bytes(2_000_000))
    job.cancel()
    at_once = {"FARM_KEEP_INTERMEDIATES_S": "0"}
    line = f"intermediate      1       2.000 MB  jobs/{job.id}/"
    printed = [run("gc", *args, **at_once).stdout.splitlines() for args in (["--dry-run"], [], [])]
    assert printed == [
        [line, "would remove      1       2.000 MB"],
        [line, "removed           1       2.000 MB"],
        ["removed           0       0.000 MB"],
    ]


@pytest.mark.usefixtures("empty_machine")
def test_gc_as_json_is_a_line_for_each_removal(run, farm):
    job = farm.submit(GIVEN)
    farm.context.store.put(keys.attempt(job.id, "download", 1, "image"), b"bytes")
    job.cancel()
    (line,) = run("gc", "--json", FARM_KEEP_INTERMEDIATES_S="0").stdout.splitlines()
    assert json.loads(line) == {
        "reason": "intermediate",
        "name": f"jobs/{job.id}/",
        "objects": 1,
        "bytes": 5,
    }


# Payloads


def payload(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_payload_has_only_the_given_fields(run, farm):
    assert payload(run("payload", *OPTIONS, "--frame-num", "41")) == {**GIVEN, "frame_num": 41}
    assert farm.jobs() == []


def test_files_are_embedded_in_a_payload(run, portrait, voice):
    args = ["--prompt", "x", "--image", str(portrait), "--audio", str(voice)]
    fields = payload(run("payload", *args, FARM_BROKER_URL="redis://127.0.0.1:1/0"))
    head, _, body = fields["cond_video"].partition(",")
    assert (head, base64.b64decode(body)) == ("data:image/png;base64", portrait.read_bytes())
    assert base64.b64decode(fields["cond_audio"]["person1"].partition(",")[2]) == voice.read_bytes()
    assert JobRequest.parse(fields).cond_video == fields["cond_video"]


def test_a_payload_from_a_file_resolves_paths_in_its_folder(run, tmp_path, portrait, voice):
    fields = payload(run("payload", "--request", str(portrait.parent / "single_image.json")))
    assert fields["cond_video"].startswith("data:image/png;base64,")


def test_files_of_a_payload_can_be_uploaded_instead(run, farm, portrait):
    args = ["--prompt", "x", "--image", str(portrait), "--text", "hello", "--upload"]
    source = payload(run("payload", *args, FARM_BROKER_URL="redis://127.0.0.1:1/0"))["cond_video"]
    assert farm.context.store.get(source.removeprefix(keys.SCHEME)) == portrait.read_bytes()


def test_an_envelope_has_the_request_and_limits_in_milliseconds(run):
    assert payload(run("payload", *OPTIONS, "--envelope")) == {"input": GIVEN}
    assert payload(run("payload", *OPTIONS, "--execution-s", "600", "--ttl-s", "3600")) == {
        "input": GIVEN,
        "policy": {"executionTimeout": 600_000, "ttl": 3_600_000},
    }


def test_a_payload_can_be_written_to_a_file(run, tmp_path):
    result = run("payload", *OPTIONS, "-o", str(tmp_path / "request.json"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((tmp_path / "request.json").read_text()) == GIVEN


@pytest.mark.parametrize(
    "args", [["--sample-steps", "0"], ["--image", "missing.png"], ["-o", "/missing/request.json"]]
)
def test_an_invalid_payload_is_not_printed(run, args):
    options = OPTIONS
    if "--image" in args:
        options = [each for each in OPTIONS if each not in ("--image", GIVEN["cond_video"])]
    error_line(run("payload", *options, *args))


def test_a_payload_with_an_unwritable_output_uploads_nothing(run, farm, portrait):
    args = [
        "--prompt",
        "x",
        "--image",
        str(portrait),
        "--text",
        "hello",
        "--upload",
        "-o",
        "/missing/request.json",
    ]
    assert "output: got '/missing/request.json'" in error_line(run("payload", *args))
    assert list(farm.context.store.keys("")) == []


def test_a_payload_with_a_face_that_is_not_an_image_is_not_printed(run, voice):
    args = ["--prompt", "x", "--image", str(voice), "--text", "hello"]
    assert "cond_video" in error_line(run("payload", *args))


@pytest.mark.parametrize(
    ("name", "hint"), [("batch.json", "farm batch run"), ("envelope.json", "under input")]
)
def test_a_batch_or_an_envelope_as_request_file_gives_a_hint(run, tmp_path, name, hint):
    (tmp_path / "envelope.json").write_text(json.dumps({"input": GIVEN, "policy": {"ttl": 10_000}}))
    shutil.copy(EXAMPLES / "batch.json", tmp_path)
    assert hint in error_line(run("submit", "--request", str(tmp_path / name)))


def test_a_payload_can_be_piped(run, portrait):
    payload = run("payload", "--prompt", "x", "--image", str(portrait), "--text", "hello").stdout
    submitted = run("submit", "--request", "-", "--json", stdin=payload)
    assert json.loads(submitted.stdout)["state"] == "queued"


def test_a_voice_without_text_is_rejected(run, portrait):
    args = ["--prompt", "x", "--image", str(portrait), "--voice", "en-us+f3"]
    assert "--voice: got 'en-us+f3' without --text" in error_line(run("submit", *args))


def test_a_ttl_below_the_execution_limit_is_rejected(run, portrait):
    args = [
        "--prompt",
        "x",
        "--image",
        str(portrait),
        "--text",
        "hello",
        "--execution-s",
        "30",
        "--ttl-s",
        "20",
    ]
    assert "ttl_s: got 20; allowed: no less than execution_s, 30" in error_line(
        run("payload", *args)
    )


def padded_video(path: Path, megabytes: float) -> str:
    """The example video, padded to another size."""
    content = (EXAMPLES / "sitter.mp4").read_bytes()
    path.write_bytes(content + bytes(int(megabytes * 1e6) - len(content)))
    return str(path)


def test_an_envelope_too_large_for_run_gives_a_note(run, tmp_path):
    args = ["--prompt", "x", "--video", padded_video(tmp_path / "video.mp4", 9), "--text", "hello"]
    result = run("payload", *args, "--envelope")
    assert result.exit_code == 0
    assert result.stderr == (
        "note: it has 12.0 MB; Runpod's /run accepts 10 MB and /runsync 20 MB; "
        "name files by URL, or --upload them\n"
    )


def test_an_envelope_too_large_for_runsync_is_rejected(run, tmp_path):
    args = ["--prompt", "x", "--video", padded_video(tmp_path / "video.mp4", 16), "--text", "hello"]
    assert "request: it has 21.3 MB; Runpod's /run" in error_line(
        run("payload", *args, "--envelope")
    )
    assert len(payload(run("payload", *args))["cond_video"]) > 21e6


# Output for programs


def test_submit_as_json_is_the_jobs_status(run, farm):
    status = json.loads(run("submit", *OPTIONS, "--json").stdout)
    assert status == farm.job(status["job_id"]).status().model_dump(mode="json")


def test_submit_inline_as_json_prints_the_last_status(run):
    args = ["--prompt", "x", "--image", "store://uploads/" + "0" * 64, "--text", "hello"]
    result = run("submit", "--inline", "--json", *args)
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
    first = farm.submit(GIVEN)
    second = farm.submit(GIVEN)
    second.cancel()
    printed = run("cancel", first.id, second.id, "--json").stdout
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"job_id": first.id, "cancelled": True, "state": "cancelled"},
        {"job_id": second.id, "cancelled": False, "state": "cancelled"},
    ]


def test_a_dry_run_as_json_is_a_line_for_each_row(run, table):
    result = run("batch", "run", str(table), "--dry-run", "--json")
    files, urls, invalid = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (2, "")
    assert {**files, "gpu_s": round(files["gpu_s"])} == {
        "line": 2,
        "id": "files",
        "frames": 224,
        "chunks": 3,
        "gpu_s": 1426,
    }
    assert urls == {"line": 3, "id": "urls", "frames": None, "chunks": None, "gpu_s": None}
    assert (invalid["id"], invalid["code"]) == ("invalid", "E_INPUT_VALIDATION")


def test_a_batch_as_json_is_a_first_line_and_one_for_each_row(run, table, tmp_path):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    out = tmp_path / "results.csv"
    result = run("batch", "run", str(table), "--out", str(out), "--json")
    started, invalid = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (1, "")
    assert started == {"batch": started["batch"], "rows": 1, "done": 0, "results": str(out)}
    assert (invalid["id"], invalid["status"], invalid["code"]) == (
        "invalid",
        "invalid",
        "E_INPUT_VALIDATION",
    )
    assert run("batch", "watch", started["batch"], "--json").stdout == result.stdout


def test_weights_as_json_are_a_line_for_each_part(run):
    parts = [
        json.loads(line)
        for line in run("weights", "check", "miniature", "--json").stdout.splitlines()
    ]
    assert "transformer" in {part["part"] for part in parts}
    assert all(part["tensors"] > 0 and part["bytes"] > 0 for part in parts)


# Output for people


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group, as it is typed."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_the_help_of_every_command_has_an_example(path):
    result = CliRunner().invoke(
        cli, [*path, "--help"], env={"COLUMNS": "200", "FARM_BROKER_URL": None}
    )
    assert result.exit_code == 0
    assert f"Example: farm {' '.join(path)}" in result.stdout


def in_a_terminal(*args: str, **environ: str) -> str:
    """The output of a command in a terminal."""
    terminal, child_terminal = pty.openpty()
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")
    }
    command = [sys.executable, "-m", "farm", *args]
    with subprocess.Popen(
        command,
        stdout=child_terminal,
        stderr=child_terminal,
        env={**kept, "TERM": "xterm", **environ},
    ) as process:
        os.close(child_terminal)
        output = b""
        with suppress(OSError):  # EIO marks the end on Linux
            while part := os.read(terminal, 1024):
                output += part
    os.close(terminal)
    assert process.returncode == 0
    return output.decode()


RED = "\x1b[31m"


def test_states_are_coloured_in_a_terminal_only(run, farm):
    failed(farm)
    settings = farm.context.settings
    environ = {"FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    assert f"{RED}error" in in_a_terminal("jobs", **environ)
    assert RED not in in_a_terminal("jobs", **environ, NO_COLOR="1")
    assert "\x1b" not in run("jobs").stdout


def test_a_pipe_gets_lines_instead_of_a_bar(run, farm):
    result = run("watch", finished(farm))
    assert "\x1b" not in result.output
    assert "\r" not in result.output


def test_an_interrupted_command_is_status_130_and_its_job_continues(farm):
    job = farm.submit(GIVEN)
    settings = farm.context.settings
    farm.context.registry.jobs.report(Event(stage="validation_started", pct=0, job_id=job.id))
    environ = {
        **os.environ,
        "FARM_HOME": str(settings.home),
        "FARM_BROKER_URL": str(settings.broker_url),
    }
    command = [sys.executable, "-m", "farm", "watch", job.id]
    # As in a shell: tests that were started in the background ignore SIGINT.
    accept_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, text=True, preexec_fn=accept_sigint
    ) as watching:
        assert "validation_started" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        message = watching.stderr.read()
    assert watching.returncode == 130
    assert message == (
        f"job {job.id} continues; `farm watch {job.id}` follows it, "
        f"`farm cancel {job.id}` ends it\n"
    )
    assert job.status().state == "running"


# Batches


@pytest.fixture
def table(tmp_path: Path, portrait: Path, voice: Path) -> Path:
    """A valid row of files, one of URLs, and an invalid one."""
    rows = [
        ("id", "prompt", "cond_video", "cond_audio.person1", "mode", "sample_steps"),
        ("files", "a woman talks", str(portrait), str(voice), "streaming", "40"),
        ("urls", "a woman talks", GIVEN["cond_video"], GIVEN["cond_audio"]["person1"], "", ""),
        ("invalid", "a woman talks", str(portrait), str(voice), "", "5000"),
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(",".join(row) for row in rows))
    return tmp_path / "jobs.csv"


def test_a_dry_run_checks_and_estimates_every_row(run, farm, table):
    result = run("batch", "run", str(table), "--dry-run")
    files, urls, invalid, total = result.stdout.splitlines()
    assert result.exit_code == 2
    assert files.split() == ["2", "files", "224", "frames", "3", "chunks", "1426", "s"]
    assert urls.endswith("unknown, because the length of its audio is not known yet")
    assert "invalid  " in invalid
    assert "sample_steps: got 5000" in invalid
    assert total == (
        "3 rows: 2 valid, 1 invalid; about 0.4 hours of one H100, without 1 of unknown length"
    )
    assert farm.jobs() == []


def test_a_dry_run_of_valid_rows_is_status_0(run, table):
    table.write_text("\n".join(table.read_text().splitlines()[:3]))
    assert run("batch", "run", str(table), "--dry-run").exit_code == 0


def test_a_batch_is_run_and_resumed(run, farm, table, tmp_path):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    out = tmp_path / "results.csv"
    first = run("batch", "run", str(table), "--out", str(out))
    batch_id, total = first.stdout.splitlines()
    assert (first.exit_code, total) == (1, f"1 rows: 1 invalid rows; {out}")
    assert first.stderr.startswith("invalid    invalid  E_INPUT_VALIDATION: sample_steps: got 5000")
    assert run("batch", "watch", batch_id).stdout == first.stdout


def test_a_batch_fails_as_long_as_a_row_of_its_file_has_no_video(run, farm, table, tmp_path):
    out = tmp_path / "results.csv"
    lines = table.read_text().splitlines()
    out.write_text("id,status,job_id,url,seed,gpu_s,code,message,batch\n")
    table.write_text("\n".join(lines[::3]))
    batch_id = run("batch", "run", str(table), "--out", str(out)).stdout.split()[0]
    # given videos of rows that are no longer in the file
    with out.open("a") as file:
        file.writelines(f"{name},success,,,,,,,{batch_id}\n" for name in ("gone", "gone too"))
    assert run("batch", "run", str(table), "--out", str(out)).exit_code == 1


def test_an_unknown_batch_is_one_line_and_status_2(run):
    assert "there is no such batch" in error_line(run("batch", "watch", "1234"))


def test_a_misspelt_column_is_one_line_and_status_2(run, table, farm):
    table.write_text(table.read_text().replace("prompt", "promt"))
    assert "did you mean prompt?" in error_line(run("batch", "run", str(table)))
    assert farm.jobs() == []


# Without a farm


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0:5555", "0.0.0.0, which other machines can reach"),
        ("5555", "allowed: ADDRESS:PORT"),
    ],
)
def test_an_invalid_flower_address_is_one_line_and_status_2(run, farm, address, reason):
    result = run("up", "--flower", address)
    assert result.exit_code == 2
    assert result.stderr.startswith("E_INPUT_VALIDATION: flower: got ")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args", [["jobs"], ["status", "a"], ["submit", *OPTIONS]], ids=lambda args: args[0]
)
def test_an_unreachable_broker_is_one_line_and_status_3(run, args):
    line = error_line(run(*args, FARM_BROKER_URL="redis://:secret@127.0.0.1:1/0"), status=3)
    assert line.startswith("E_UNREACHABLE: no broker answers at 127.0.0.1:1; is the farm up?")


def test_a_home_without_a_farm_is_one_line_and_status_3(tmp_path):
    result = CliRunner().invoke(
        cli, ["jobs"], env={"FARM_HOME": str(tmp_path), "FARM_BROKER_URL": None}
    )
    assert "no farm is up in" in error_line(result, status=3)


def test_a_misspelt_variable_is_one_line_and_status_2(run):
    assert "did you mean FARM_LEASE_S?" in error_line(run("jobs", FARM_LEASES_S="3"))


@pytest.mark.parametrize(
    "url",
    [
        "amqp://host",
        "redis://host:port/0",
    ],
)
def test_an_invalid_broker_url_is_one_line_and_status_2(run, url):
    assert "FARM_BROKER_URL" in error_line(run("jobs", FARM_BROKER_URL=url))


def test_help_and_version_need_no_farm():
    for args in (["--help"], ["-h"], ["--version"], ["submit", "-h"]):
        assert CliRunner().invoke(cli, args, env={"FARM_BROKER_URL": None}).exit_code == 0


# Inline


def test_an_inline_job_that_fails_is_status_1_and_prints_its_error(run, farm):
    result = run(
        "submit",
        "--inline",
        "--prompt",
        "x",
        "--image",
        "store://uploads/" + "0" * 64,
        "--text",
        "hello",
    )
    assert result.exit_code == 1
    assert "downloads_started" in result.stderr
    assert "E_DOWNLOAD_FAILED: cond_video: the store holds no uploads/0000" in result.stdout
    assert farm.jobs() == []


def test_metrics_once_prints_them(run, farm):
    farm.submit(GIVEN)
    result = run("metrics", "--once")
    assert result.exit_code == 0
    assert "farm_live_jobs 1.0\n" in result.output
    assert "# HELP farm_queue_length queued messages" in result.output


def test_metrics_need_an_address(run):
    result = run("metrics")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "E_INPUT_VALIDATION: FARM_METRICS_ADDRESS: not set; allowed: PORT or HOST:PORT\n"
    )


def test_metrics_report_a_port_in_use(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("metrics", FARM_METRICS_ADDRESS=address)
    assert result.exit_code == 2
    assert f"FARM_METRICS_ADDRESS: got '{address}'; Address already in use" in result.stderr
