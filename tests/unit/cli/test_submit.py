"""`farm submit`: options, request files, and jobs run inline."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from farm.cli.options import SHORTHANDS
from farm.client import Farm, Job
from farm.job import SHORT_NAMES, JobRequest
from farm.store import keys
from tests.conftest import EXAMPLES
from tests.support.cli import OPTIONS, error_line, error_lines, finished, request_of
from tests.support.jobs import FIELDS, TRIAL, resolved


def test_submit_prints_only_the_jobs_id(run, farm):
    result = run("submit", *OPTIONS)
    assert result.stdout == f"{farm.jobs()[0].job_id}\n"
    assert request_of(farm, result) == resolved(FIELDS)


def test_a_dry_run_prints_the_estimate_and_submits_nothing(run, farm, portrait, voice):
    args = ["submit", "--prompt", "x", "--image", portrait, "--audio", voice, "--dry-run"]
    ask = list(map(str, args))
    result = run(*ask, FARM_GPU_PRICE_PER_H="3.6")
    assert result.stderr == f"note: {TRIAL}\n"
    assert result.stdout == (
        "9.0 s of video (224 frames, 3 chunks); about 40 GPU seconds at the pace of one H200, "
        "as measured on 2026-11-30; cost about 0.04\n"
    )
    estimate = json.loads(run(*ask, "--json").stdout)
    assert (estimate["frames"], estimate["cost"], estimate["length"]) == (224, None, "known")
    assert farm.jobs() == []


def test_a_dry_run_needs_no_farm(run, portrait, tmp_path):
    args = ["--prompt", "x", "--image", str(portrait), "--text", "hello", "--dry-run"]
    result = run("submit", *args, FARM_HOME=str(tmp_path), FARM_BROKER_URL="")
    assert "by the characters of the text (" in result.stdout


def test_a_job_beyond_its_callers_limit_is_refused_in_one_line(run, portrait, voice):
    args = ["--prompt", "x", "--image", str(portrait), "--audio", str(voice)]
    result = run("submit", *args, "--max-cost", "0.01", FARM_GPU_PRICE_PER_H="3.6")
    assert error_line(result).startswith(
        "E_INPUT_VALIDATION: --max-cost: got 0.01; the estimate is"
    )


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
        assert f"--{name.replace('_', '-')} " in help_text
        assert " ".join(field.description.split()) in help_text


@pytest.mark.parametrize(
    "row",
    [
        r"Face: --image FILE\|URL",
        r"Voice: --audio FILE\|URL",
        r"Length: --mode \[\S*clip\S*\] ",
        r"Quality: --prompt TEXT",
        r"--teacache-thresh NUMBER [^\[]*\[default: 0\.2\]",
        r"--scene-seg / --no-scene-seg [^\[]*\[default: false\]",
        r"Delivery: --output-config JSON",
        r"--priority \[high\|normal\|low\] [^\[]*\[default: normal\]",
    ],
)
def test_the_help_has_groups_types_and_defaults(run, row):
    assert re.search(row, " ".join(run("submit", "--help").stdout.split()))


def test_a_voice_without_a_text_is_told_what_it_lacks(run, farm):
    args = ["submit", "--image", FIELDS["cond_video"], "--voice", "de"]
    assert "--text: it is missing; allowed: what --voice speaks" in error_line(run(*args))


def test_what_is_true_or_false_is_a_flag(run, farm, tmp_path):
    on = request_of(farm, run("submit", *OPTIONS, "--use-apg", "--no-offload-model"))
    assert (on.use_apg, on.use_teacache, on.offload_model) == (True, False, False)
    file = write(tmp_path, {**FIELDS, "use_apg": True})
    assert not request_of(farm, run("submit", "--request", file, "--no-use-apg")).use_apg


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
    assert line.startswith("E_INPUT_VALIDATION: --sample-steps: got 0; ")


def test_a_value_that_is_not_a_number_is_named(run):
    assert "--sample-steps: got 'many'" in error_line(
        run("submit", *OPTIONS, "--sample-steps", "many")
    )


def test_a_quota_that_is_used_up_is_one_line_and_status_4(run):
    line = error_line(run("submit", *OPTIONS, FARM_MAX_LIVE_JOBS="0"), status=4)
    assert line.startswith("E_QUOTA: caller ")


def test_a_missing_file_is_one_line_and_status_2(run):
    line = error_line(run("submit", "--prompt", "x", "--image", "missing.png", "--text", "hello"))
    assert line.startswith("E_INPUT_VALIDATION: --image: got 'missing.png'; there is no such file")


def test_every_short_name_of_a_field_is_an_option(run, farm):
    assert [each.name for each in SHORTHANDS] == list(SHORT_NAMES)
    voices = ["--audio", "https://a/1", "--audio2", "https://a/2", "--audio-type", "add"]
    request = request_of(farm, run("submit", "--image", "https://a/i", *voices))
    assert (request.speakers, request.cond_audio.person2) == (2, "https://a/2")


@pytest.mark.parametrize(
    "command",
    [("submit", *OPTIONS), ("submit", *OPTIONS, "--dry-run"), ("result", "ID")],
    ids=["submit", "dry run", "result"],
)
def test_an_output_that_is_named_as_another_format_is_refused(run, farm, command):
    line = error_line(run(*command, "-o", "out.avi"))
    assert line == (
        "E_INPUT_VALIDATION: output: got 'out.avi'; a video is an MP4; "
        "allowed: a name that ends in .mp4, or a folder"
    )
    assert farm.jobs() == []


def test_an_output_behind_a_folder_that_is_not_there_is_refused_at_once(run, farm, tmp_path):
    output = f"{tmp_path}/gone/../out.mp4"
    line = error_line(run("submit", *OPTIONS, "-o", output))
    assert f"output: got {output!r}; allowed: a file in a writable folder (No such" in line
    assert farm.jobs() == []


@pytest.mark.parametrize("command", [("submit", "--dry-run"), ("payload",)])
@pytest.mark.parametrize("option", ["--image", "--audio", "--request"])
def test_an_output_that_is_an_input_is_refused(
    run, farm, tmp_path, portrait, voice, command, option
):
    files = {"--image": tmp_path / "face.png", "--audio": tmp_path / "voice.wav"}
    shutil.copy(portrait, files["--image"])
    shutil.copy(voice, files["--audio"])
    (tmp_path / "request.json").write_text("{}")
    args = ["--request", str(tmp_path / "request.json")]
    for name, path in files.items():
        args += [name, str(path)]
    input_file = {**files, "--request": tmp_path / "request.json"}[option]
    content = input_file.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(input_file)
    line = error_line(run(*command, *args, "-o", str(link)))
    assert line == (
        f"E_INPUT_VALIDATION: output: got {str(link)!r}, which is the file of {option}; "
        "allowed: another one"
    )
    assert (input_file.read_bytes(), farm.jobs()) == (content, [])


@pytest.mark.parametrize(
    ("repeated", "line"),
    [
        (
            ["--audio", "a", "--audio", "b"],
            "--audio: got 2 of it; allowed: one; a second speaker has --audio2",
        ),
        (["--image", "a", "--image", "b", "--image", "c"], "--image: got 3 of it; allowed: one"),
        (["-o", "a", "--output", "b"], "--output: got 2 of it; allowed: one"),
        (["--use-apg", "--no-use-apg"], "--use-apg: got 2 of it; allowed: one"),
    ],
    ids=lambda part: part[0],
)
def test_an_option_that_is_repeated_is_refused(run, repeated, line):
    assert error_line(run("submit", *repeated)) == f"E_INPUT_VALIDATION: {line}"


URL = "https://a/i"


def test_submitting_nothing_is_rejected(run):
    line = error_line(run("submit"))
    assert line.startswith("E_INPUT_VALIDATION: --image or --video: it is missing")


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        (
            ["--image", URL, "--text", "a", "--audio", URL],
            ['--audio: got {"person1": "https://a/i"}; give'],
        ),
        (
            ["--image", URL],
            ["--audio: it is missing; give exactly one of --audio (audio) and --"],
        ),
        (
            ["--image", URL, "--text", "hi", "--voice", "german", "--frame-num", "80"],
            ["--voice: got 'german'; no voice has", "--frame-num: got 80; it must be 4n+1"],
        ),
        (
            ["--image", URL, "--cond-audio", '{"person1": ""}', "--motion-frame", "x"],
            ["--cond-audio person1: got ''", "--motion-frame: got 'x'"],
        ),
        (
            ["--video", URL, "--text", "hi", "--motion-frame", "9", "--frame-num", "5"],
            ["--motion-frame: got 9; it must be smaller than --frame-num, which is 5"],
        ),
        (
            ["--image", "cond_video", "--text", "hi"],
            ["--image: got 'cond_video'; there is no"],
        ),
        (["--image", "a", "--cond-video", "b"], ["--image and --cond-video: allowed: one of them"]),
        (["--text", "a", "--tts-audio", "{}"], ["--text and --tts-audio: allowed: one of them"]),
    ],
    ids=lambda part: " ".join(part)[:40],
)
def test_every_mistake_has_a_line_that_names_the_option(run, options, starts):
    lines = error_lines(run("submit", "--prompt", "x", *options))
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(f"E_INPUT_VALIDATION: {start}")


def test_mistakes_in_files_are_all_named_by_their_options(run, portrait, voice):
    args = ["--prompt", "x", "--image", str(voice), "--audio", str(portrait)]
    face, sound = error_lines(run("submit", *args))
    assert face.startswith("E_INPUT_VALIDATION: --image: the file holds audio, not an image")
    assert sound.startswith("E_INPUT_VALIDATION: --audio: the file holds an image, not audio")


def test_mistakes_in_fields_and_in_files_are_named_together(run, voice, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which is not read before it is known to be needed
    args = ["--prompt", "x", "--image", str(voice), "--audio", str(tmp_path / "pipe")]
    steps, face = error_lines(run("submit", *args, "--sample-steps", "0"))
    assert steps.startswith("E_INPUT_VALIDATION: --sample-steps: got 0")
    assert face.startswith("E_INPUT_VALIDATION: --image: the file holds audio, not an image")


def test_a_mistake_is_named_before_a_farm_is_looked_for(run, tmp_path):
    no_farm = {"FARM_HOME": str(tmp_path / "none"), "FARM_BROKER_URL": None}
    assert "E_UNREACHABLE" in error_line(run("submit", *OPTIONS, **no_farm), status=3)
    result = run("submit", *OPTIONS, "--sample-steps", "0", **no_farm)
    assert "--sample-steps: got 0" in error_line(result)
    sound, face = error_lines(run("submit", "--image", "no.png", "--audio", "no.wav", **no_farm))
    assert face.startswith("E_INPUT_VALIDATION: --image: got 'no.png'; there is no such file")
    assert sound.startswith("E_INPUT_VALIDATION: --audio: got 'no.wav'; there is no such file")


def test_a_mistake_in_a_file_is_named_by_its_field(run, tmp_path):
    file = write(tmp_path, {**FIELDS, "sample_steps": 0})
    steps, shift = error_lines(run("submit", "--request", file, "--sample-shift", "0"))
    assert steps.startswith("E_INPUT_VALIDATION: sample_steps: got 0")
    assert shift.startswith("E_INPUT_VALIDATION: --sample-shift: got 0")


def write(folder: Path, fields: Any) -> str:
    (folder / "request.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    return str(folder / "request.json")


def test_a_request_file_is_submitted(run, farm, tmp_path):
    assert request_of(farm, run("submit", "--request", write(tmp_path, FIELDS))) == resolved(FIELDS)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["photo.png", "my voice.wav"], "Did you mean `--image photo.png --audio 'my voice.wav'`?"),
        (["--quality", "draft", "sitter.mp4"], "Did you mean `--video sitter.mp4`?"),
        (["job.json"], "Did you mean `--request job.json`?"),
        (["--text", "Guten", "Tag"], "a text of several words quotes."),
        (["photo.png", "voice"], "A file needs its option (--image, --video, --audio, --request)"),
    ],
    ids=["image and audio", "behind an option", "request", "text", "unknown"],
)
def test_words_without_an_option_are_answered_with_it(run, words, hint):
    result = run("submit", *words)
    assert result.exit_code == 2
    assert "Got unexpected extra arguments (" in result.stderr
    assert hint in result.stderr


def test_options_override_the_file(run, farm, tmp_path):
    result = run("submit", "--request", write(tmp_path, FIELDS), "--prompt", "another")
    assert request_of(farm, result).prompt == "another"


def test_a_text_replaces_the_recordings_of_a_file(run, farm, tmp_path):
    recordings = {"person1": "https://a/1.wav", "person2": "https://a/2.wav"}
    file = write(tmp_path, {**FIELDS, "cond_audio": recordings, "audio_type": "add"})
    request = request_of(farm, run("submit", "--request", file, "--text", "hello"))
    assert (request.tts_audio.text, request.cond_audio, request.audio_type) == ("hello", None, None)


def test_a_recording_replaces_the_text_of_a_file(run, farm, tmp_path):
    file = write(tmp_path, {**FIELDS, "cond_audio": None, "tts_audio": {"text": "hello"}})
    request = request_of(farm, run("submit", "--request", file, "--audio", "https://a/1.wav"))
    assert (request.cond_audio.person1, request.tts_audio) == ("https://a/1.wav", None)


def test_a_part_of_a_files_voice_can_be_replaced(run, farm, tmp_path):
    spoken = {"text": "hello", "human1_voice": "de"}
    file = write(tmp_path, {**FIELDS, "cond_audio": None, "tts_audio": spoken})
    request = request_of(farm, run("submit", "--request", file, "--voice", "fr"))
    assert (request.tts_audio.text, request.tts_audio.human1_voice) == ("hello", "fr")
    whole = run("submit", "--request", file, "--tts-audio", '{"text": "good morning"}')
    assert request_of(farm, whole).tts_audio.human1_voice is None


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
        ("[]", "got array; allowed: one JSON object"),
        ('"x"', "got string; allowed"),
        ('{"prompt": "x", "tts_audio": {"text": "y"}}', "cond_video: it is missing"),
        ('{"prompt": "x", "cond_video": 5, "tts_audio": {"text": "y"}}', "cond_video: got 5"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_request_may_be_piped_and_saved_as_powershell_does(run, farm, tmp_path, encoding):
    content = json.dumps({**FIELDS, "prompt": "für alle"}, ensure_ascii=False).encode(encoding)
    (tmp_path / "request.json").write_bytes(content)
    from_file = run("submit", "--request", str(tmp_path / "request.json"))
    from_stdin = run("submit", "--request", "-", stdin=content)
    for result in (from_file, from_stdin):
        assert request_of(farm, result).prompt == "für alle"


def test_a_request_can_come_through_a_named_pipe(run, farm, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    content = json.dumps(FIELDS).encode()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content], daemon=True)
    writer.start()
    assert request_of(farm, run("submit", "--request", str(tmp_path / "pipe"))).prompt
    writer.join()


def test_the_warnings_of_a_video_that_is_saved_are_printed(run, farm, tmp_path, monkeypatch):
    job_id = finished(farm)
    monkeypatch.setattr(Farm, "submit", lambda self, _: self.job(job_id))
    result = run("submit", *OPTIONS, "-o", str(tmp_path / "out.mp4"))
    assert (result.exit_code, result.stdout) == (0, f"{job_id}\n{tmp_path / 'out.mp4'}\n")
    assert result.stderr.endswith("note: the voice is longer\n")


def test_a_video_that_cannot_be_saved_is_not_lost(run, farm, tmp_path, monkeypatch):
    job_id = finished(farm)
    films = tmp_path / "films"
    films.mkdir()

    def submit(self: Farm, _: Any) -> Job:
        films.rmdir()
        return self.job(job_id)

    monkeypatch.setattr(Farm, "submit", submit)
    result = run("submit", *OPTIONS, "-o", str(films / "out.mp4"))
    assert (result.exit_code, result.stdout) == (2, f"{job_id}\n")
    *_, note, error = result.stderr.splitlines()
    assert note == f"the video is made; `farm result {job_id} -o FILE` saves it"
    assert error.startswith(f"E_INPUT_VALIDATION: output: got '{films / 'out.mp4'}'")


def test_a_missing_request_file_is_status_2(run):
    assert run("submit", "--request", "missing.json").exit_code == 2


def test_a_request_file_can_contain_base64(run, farm, tmp_path, portrait):
    face = base64.b64encode(portrait.read_bytes()).decode()
    file = write(tmp_path, {**FIELDS, "cond_video": face})
    uploaded = request_of(farm, run("submit", "--request", file)).cond_video
    assert uploaded == keys.SCHEME + keys.upload(portrait)


@pytest.mark.parametrize(
    ("name", "hint"), [("batch.json", "farm batch run"), ("envelope.json", "under input")]
)
def test_a_batch_or_an_envelope_as_request_file_gives_a_hint(run, tmp_path, name, hint):
    (tmp_path / "envelope.json").write_text(
        json.dumps({"input": FIELDS, "policy": {"ttl": 10_000}})
    )
    shutil.copy(EXAMPLES / "batch.json", tmp_path)
    assert hint in error_line(run("submit", "--request", str(tmp_path / name)))


def test_a_voice_without_text_is_rejected(run, portrait):
    args = ["--prompt", "x", "--image", str(portrait), "--voice", "en-us+f3"]
    assert "--text: it is missing" in error_line(run("submit", *args))


def test_submit_as_json_is_the_jobs_status(run, farm):
    status = json.loads(run("submit", *OPTIONS, "--json").stdout)
    assert status == farm.job(status["job_id"]).status().model_dump(mode="json")


def test_submit_inline_as_json_prints_the_last_status(run):
    args = ["--prompt", "x", "--image", "store://uploads/" + "0" * 64, "--text", "hello"]
    result = run("submit", "--inline", "--json", *args)
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout)["result"]["error"]["code"] == "E_DOWNLOAD_FAILED"


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
