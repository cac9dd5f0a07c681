"""`farm batch`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farm.media.audio import write_wav
from farm.presets import MINIATURE, PRESETS
from tests.support.cli import error_line, finished
from tests.support.jobs import FIELDS

HOOK = "https://example.org/done"


@pytest.fixture
def table(tmp_path: Path, portrait: Path, voice: Path) -> Path:
    """A valid row of files, one of URLs, and an invalid one."""
    rows = [
        ("id", "prompt", "cond_video", "cond_audio.person1", "mode", "sample_steps"),
        ("files", "a woman talks", str(portrait), str(voice), "streaming", "40"),
        ("urls", "a woman talks", FIELDS["cond_video"], FIELDS["cond_audio"]["person1"], "", ""),
        ("invalid", "a woman talks", str(portrait), str(voice), "", "5000"),
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(",".join(row) for row in rows))
    return tmp_path / "jobs.csv"


def test_a_dry_run_as_json_is_a_line_for_each_row(run, table):
    result = run("batch", "run", str(table), "--dry-run", "--json")
    files, urls, invalid = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (2, "")
    assert (files["line"], files["id"], files["length"]) == (2, "files", "known")
    assert (files["frames"], files["chunks"], round(files["gpu_s"])) == (224, 3, 361)
    assert (urls["id"], urls["frames"], urls["length"]) == ("urls", None, "unknown")
    assert (invalid["id"], invalid["code"]) == ("invalid", "E_INPUT_VALIDATION")


def test_a_batch_as_json_is_a_first_line_and_one_for_each_row(run, table, tmp_path):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    out = tmp_path / "results.csv"
    result = run("batch", "run", str(table), "--output", str(out), "--json")
    started, invalid = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (1, "")
    assert started == {"batch": started["batch"], "rows": 1, "done": 0, "results": str(out)}
    assert (invalid["id"], invalid["status"], invalid["code"]) == (
        "invalid",
        "invalid",
        "E_INPUT_VALIDATION",
    )
    assert run("batch", "resume", started["batch"], "--json").stdout == result.stdout


def test_a_dry_run_names_the_columns_that_the_table_has(run, tmp_path):
    (tmp_path / "jobs.csv").write_text("image,audio\nmissing.png,https://e.org/a\n")

    result = run("batch", "run", str(tmp_path / "jobs.csv"), "--dry-run", "--json")

    assert json.loads(result.stdout)["message"].startswith("image: got 'missing.png'; ")


def test_a_dry_run_checks_and_estimates_every_row(run, farm, table):
    result = run("batch", "run", str(table), "--dry-run", FARM_GPU_PRICE_PER_H="3.6")
    files, urls, invalid, total = result.stdout.splitlines()
    assert result.exit_code == 2
    assert "files                 9.0 s of video (224 frames, 3 chunks); about 361" in files
    assert urls.endswith("unknown until the length of the voice is known")
    assert "invalid  " in invalid
    assert "sample_steps: got 5000" in invalid
    assert total == (
        "3 rows: 2 valid, 1 invalid; about 361 GPU seconds at the pace of one H200, "
        "as measured on 2026-11-30; cost about 0.36; without 1 of unknown length"
    )
    assert farm.jobs() == []


def test_a_dry_run_refuses_what_a_worker_would_refuse(run, tmp_path, portrait, voice):
    write_wav(tmp_path / "blip.wav", np.zeros(624, np.float32), 16_000)
    (tmp_path / "page.png").write_text("<html>")
    box = '"[0, 0, 5000, 10]"'
    shares = '"[0, 0, 0.5, 1]"'
    rows = [
        ("id", "prompt", "cond_video", "cond_audio.person1", "bbox"),
        ("box", "p", str(portrait), str(voice), box),
        ("shares", "p", str(portrait), str(voice), shares),
        ("short", "p", str(portrait), "blip.wav", ""),
        ("page", "p", "page.png", str(voice), ""),
        ("good", "p", str(portrait), str(voice), ""),
    ]
    table = tmp_path / "jobs.csv"
    table.write_text("\n".join(",".join(row) for row in rows))
    result = run("batch", "run", str(table), "--dry-run", "--json", FARM_MAX_AUDIO_BYTES="1000000")
    *invalid, good = [json.loads(line) for line in result.stdout.splitlines()]
    assert {row["code"] for row in invalid} == {"E_INPUT_VALIDATION"}
    box, shares, short, page = (row["message"] for row in invalid)
    assert box.startswith("bbox.person1: got [0, 0, 5000, 10]; allowed: x up to 512, y up to 512")
    assert "of which the video shows 0 x 0 pixels; allowed: 16 x 16 or more" in shares
    assert short == "cond_audio.person1: it lasts 0.039 s; allowed: 0.04 s or more"
    assert page.startswith("cond_video: the file holds a web page, not an image or a video")
    assert good["frames"] == 224
    result = run("batch", "run", str(table), "--dry-run", FARM_MAX_AUDIO_BYTES="1000")
    assert "cond_audio.person1: it has 39" in result.stdout
    assert " 0 valid, 5 invalid" in result.stdout
    result = run("batch", "run", str(table), "--dry-run", FARM_MAX_AUDIO_S="2")
    assert "cond_audio.person1: got 9 s; allowed: 2 s" in result.stdout


def test_a_dry_run_refuses_text_that_its_voice_does_not_read(run, tmp_path, portrait):
    table = tmp_path / "jobs.csv"
    table.write_text(f"prompt,cond_video,tts_audio.text\np,{portrait},今天天气很好\n")
    result = run("batch", "run", str(table), "--dry-run")
    assert "tts_audio.text: got '今天天气很好'; most of its letters are Chinese" in result.stdout
    assert "0 valid, 1 invalid" in result.stdout


def test_a_dry_run_refuses_a_size_that_the_model_does_not_make(run, table, monkeypatch):
    small = replace(MINIATURE, name="small", sizes={"infinitetalk-720": {}})
    monkeypatch.setitem(PRESETS, small.name, small)
    result = run("batch", "run", str(table), "--dry-run", FARM_PRESETS="small")
    allowed = "size: got 'infinitetalk-480'; the model small makes infinitetalk-720"
    assert result.stdout.count(allowed) == 2


def test_a_dry_run_refuses_what_the_farm_does_not_do(run, table):
    table.write_text(table.read_text().replace("mode", "webhook").replace("streaming", HOOK))
    result = run("batch", "run", str(table), "--dry-run")
    assert "webhook: webhooks are disabled on this farm" in result.stdout


def test_a_dry_run_of_valid_rows_is_status_0(run, table):
    table.write_text("\n".join(table.read_text().splitlines()[:3]))
    assert run("batch", "run", str(table), "--dry-run").exit_code == 0


def test_a_batch_is_run_and_resumed(run, farm, table, tmp_path):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    out = tmp_path / "results.csv"
    first = run("batch", "run", str(table), "--output", str(out))
    batch_id, total = first.stdout.splitlines()
    assert (first.exit_code, total) == (1, f"1 row: 1 invalid; {out}")
    assert first.stderr.startswith("invalid    invalid  E_INPUT_VALIDATION: sample_steps: got 5000")
    assert run("batch", "resume", batch_id).stdout == first.stdout


def test_a_batch_fails_as_long_as_a_row_of_its_file_has_no_video(run, farm, table, tmp_path):
    out = tmp_path / "results.csv"
    lines = table.read_text().splitlines()
    out.write_text("id,status,job_id,url,seed,gpu_s,code,message,warnings,batch\n")
    table.write_text("\n".join(lines[::3]))
    batch_id = run("batch", "run", str(table), "--output", str(out)).stdout.split()[0]
    # given videos of rows that are no longer in the file
    with out.open("a") as file:
        file.writelines(f"{name},success,,,,,,,,{batch_id}\n" for name in ("gone", "gone too"))
    assert run("batch", "run", str(table), "--output", str(out)).exit_code == 1


def test_videos_are_saved_by_the_ids_of_their_rows(run, farm, table, tmp_path):
    video = finished(farm)
    folder = tmp_path / "films"
    args = ["batch", "run", str(table), "--output", str(tmp_path / "r.csv"), "--save", str(folder)]
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    batch_id = run(*args).stdout.split()[0]
    with (tmp_path / "r.csv").open("a") as file:
        file.write(f"a/../b,success,{video}{',' * 9}{batch_id}\n")
        file.write(f"lost,success,none{',' * 9}{batch_id}\n")
    result = run("batch", "resume", batch_id)
    assert (folder / "a%2F..%2Fb.mp4").read_bytes() == b"the video"
    assert "lost  not saved: E_INPUT_VALIDATION: job_id: got 'none'" in result.stderr


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("args", "mistake"),
    [
        (["-o", "face.png"], "output: got 'face.png', which is the file of image of row second"),
        (["-o", "jobs.csv"], "output: got 'jobs.csv', which is the file of the batch"),
        (["--save", "."], "save: got 'first.mp4', which is the file of audio of row second"),
        (
            ["--save", "new/.."],
            "save: got 'new/../first.mp4', which is the file of audio of row second",
        ),
    ],
    ids=["results over a face", "results over the table", "video over a voice", "by a new folder"],
)
def test_an_output_that_is_an_input_of_any_row_is_refused(
    run, farm, tmp_path, portrait, voice, monkeypatch, args, mistake, dry_run
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(portrait, "face.png")
    shutil.copy(voice, "first.mp4")  # a voice is taken from any file that has one
    Path("jobs.csv").write_text(
        "id,image,audio\nfirst,https://e.org/a,https://e.org/b\nsecond,face.png,first.mp4\n"
    )
    contents = {file: file.read_bytes() for file in tmp_path.glob("*.*")}
    line = error_line(run("batch", "run", "jobs.csv", *args, *dry_run))
    assert line == f"E_INPUT_VALIDATION: {mistake}; allowed: another one"
    assert {file: file.read_bytes() for file in tmp_path.glob("*.*")} == contents
    assert farm.jobs() == []


def test_an_input_that_a_row_got_meanwhile_is_not_written_over(run, table, tmp_path, voice):
    table.write_text("\n".join(table.read_text().splitlines()[::3]))
    results, films = str(tmp_path / "r.csv"), tmp_path / "films"
    first = run("batch", "run", str(table), "-o", results, "--save", str(films))
    batch_id = first.stdout.split()[0]
    recording = films / "changed.mp4"  # a voice is taken from any file that has one
    shutil.copy(voice, recording)
    table.write_text(f"id,image,audio\nchanged,https://e.org/a,{recording}\n")
    line = error_line(run("batch", "resume", batch_id))
    assert f"save: got '{recording}', which is the file of audio of row changed" in line
    assert recording.read_bytes() == voice.read_bytes()


def test_a_file_alone_is_answered_with_run(run, table):
    assert f"Did you mean 'run {table}'?" in run("batch", str(table)).stderr


def test_an_unknown_batch_is_one_line_and_status_2(run):
    assert "there is no such batch" in error_line(run("batch", "resume", "1234"))


def test_a_misspelt_column_is_one_line_and_status_2(run, table, farm):
    table.write_text(table.read_text().replace("prompt", "promt"))
    assert "did you mean prompt?" in error_line(run("batch", "run", str(table)))
    assert farm.jobs() == []
