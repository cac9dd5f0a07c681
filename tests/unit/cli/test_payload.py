"""`farm payload`: requests for Runpod, printed instead of submitted."""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from farm.job import JobRequest
from farm.store import keys
from tests.conftest import EXAMPLES
from tests.support.cli import OPTIONS, error_line
from tests.support.jobs import FIELDS


def payload(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_payload_has_only_the_given_fields(run, farm):
    assert payload(run("payload", *OPTIONS, "--frame-num", "41")) == {**FIELDS, "frame_num": 41}
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
    assert payload(run("payload", *OPTIONS, "--envelope")) == {"input": FIELDS}
    assert payload(run("payload", *OPTIONS, "--execution-s", "600", "--ttl-s", "3600")) == {
        "input": FIELDS,
        "policy": {"executionTimeout": 600_000, "ttl": 3_600_000},
    }


def test_a_payload_can_be_written_to_a_file(run, tmp_path):
    result = run("payload", *OPTIONS, "-o", str(tmp_path / "request.json"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((tmp_path / "request.json").read_text()) == FIELDS


@pytest.mark.parametrize(
    "args", [["--sample-steps", "0"], ["--image", "missing.png"], ["-o", "/missing/request.json"]]
)
def test_an_invalid_payload_is_not_printed(run, args):
    options = OPTIONS
    if "--image" in args:
        options = [each for each in OPTIONS if each not in ("--image", FIELDS["cond_video"])]
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
    assert "--image: the file holds audio" in error_line(run("payload", *args))


def test_a_payload_with_a_box_outside_the_image_is_not_printed(run, portrait):
    args = ["--prompt", "x", "--image", str(portrait), "--text", "hello"]
    line = error_line(run("payload", *args, "--bbox", "[0, 0, 513, 10]"))
    assert "--bbox person1: got [0, 0, 513, 10]; allowed: x up to 512, y up to 512" in line


def test_a_file_of_a_payload_may_be_a_pipe(run, portrait, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(
        target=(tmp_path / "pipe").write_bytes, args=[portrait.read_bytes()], daemon=True
    )
    writer.start()
    args = ["--prompt", "x", "--image", str(tmp_path / "pipe"), "--text", "hello"]
    face = payload(run("payload", *args))["cond_video"]
    writer.join()
    assert base64.b64decode(face.partition(",")[2]) == portrait.read_bytes()


def test_a_payload_can_be_piped(run, portrait):
    payload = run("payload", "--prompt", "x", "--image", str(portrait), "--text", "hello").stdout
    submitted = run("submit", "--request", "-", "--json", stdin=payload)
    assert json.loads(submitted.stdout)["state"] == "queued"


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
        "note: its size is 12.0 MB; Runpod's /run accepts 10 MB and /runsync 20 MB; "
        "name files by URL, or --upload them\n"
    )


def test_an_envelope_too_large_for_runsync_is_rejected(run, tmp_path):
    args = ["--prompt", "x", "--video", padded_video(tmp_path / "video.mp4", 16), "--text", "hello"]
    assert "request: its size is 21.3 MB; Runpod's /run" in error_line(
        run("payload", *args, "--envelope")
    )
    assert len(payload(run("payload", *args))["cond_video"]) > 21e6
