"""`farm voices`."""

from __future__ import annotations

import json

from farm.job.voices import ESPEAK
from farm.media.audio import decode


def test_every_voice_is_listed_without_a_farm(run):
    result = run("voices", FARM_BROKER_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [v.name for v in ESPEAK]
    assert "A variant may follow: de+f3." in result.stderr


def test_the_voices_of_a_language_are_listed_as_json(run):
    result = run("voices", "--language", "german", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"name": "de", "language": "de", "language_name": "German", "synthesiser": "espeak-ng"}
    ]
    assert result.stderr == ""


def test_an_unknown_language_is_refused_with_a_near_one(run):
    result = run("voices", "--language", "germann")
    assert result.exit_code == 2
    assert "language: got 'germann'; no voice speaks it" in result.stderr
    assert result.stderr.endswith("did you mean de?\n")


def test_a_voice_can_be_heard(run, tmp_path):
    spoken = []
    for name, options in {
        "language": ["--language", "de"],
        "voice": ["--voice", "de"],
        "variant": ["--voice", "de+m3"],
    }.items():
        path = tmp_path / f"{name}.wav"
        result = run("voices", "--say", "Guten Tag", "-o", str(path), *options)
        assert (result.exit_code, result.stdout) == (0, f"{path}\n")
        spoken.append(decode(path)[0])
    assert spoken[0].tolist() == spoken[1].tolist()
    assert spoken[1].shape != spoken[2].shape or (spoken[1] != spoken[2]).any()


def test_what_is_said_needs_a_file_and_a_voice(run, tmp_path):
    assert "--say and -o: one of them is missing" in run("voices", "--say", "hello").stderr
    result = run("voices", "--say", "hello", "--voice", "german", "-o", str(tmp_path / "x.wav"))
    assert result.exit_code == 2
    assert "--voice: got 'german'; no voice has that name" in result.stderr
