"""What headers announce, against what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.media.header import announced_seconds
from farm.media.probe import Audio, Clip, expect_audio, expect_visual
from tests.support.films import write_film

NAMES = ["film.mp4", "film.webm", "film.mkv"]


def probed(path: Path) -> tuple[float | None, Clip]:
    """The announced length of a film, and what is there."""
    found = expect_visual(path, field="cond_video")
    assert isinstance(found, Clip)
    return announced_seconds(path, found), found


def probed_voice(path: Path) -> tuple[float | None, Audio]:
    found = expect_audio(path, field="cond_audio.person1")
    return announced_seconds(path, found), found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sound_seconds", [0, 4])
def test_a_header_announces_what_an_upload_was_to_hold(tmp_path, name, sound_seconds):
    film = write_film(tmp_path / name, seconds=4, sound_seconds=sound_seconds)
    content = film.read_bytes()
    # A film whose tracks follow each other, not interleaved, would keep its video.
    film.write_bytes(content[: len(content) // 4])
    announced, found = probed(film)
    assert announced == pytest.approx(4, abs=0.1)
    assert found.seconds < 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [{}, {"sound_seconds": 0.5}, {"begin": 100}], ids=str)
def test_a_whole_file_holds_what_it_announces(tmp_path, name, lengths):
    announced, found = probed(write_film(tmp_path / name, seconds=1, **lengths))
    assert announced == pytest.approx(found.seconds, abs=0.1)


def test_sound_longer_than_the_film_announces_nothing_of_the_film(tmp_path):
    announced, found = probed(write_film(tmp_path / "film.mp4", seconds=1, sound_seconds=3))
    assert announced == pytest.approx(found.seconds, abs=0.1)
    announced, _ = probed(write_film(tmp_path / "film.mkv", seconds=1, sound_seconds=3))
    assert announced is None


def test_a_film_longer_than_its_sound_announces_nothing_of_the_sound(tmp_path):
    announced, found = probed_voice(write_film(tmp_path / "film.mp4", seconds=3, sound_seconds=1))
    assert announced == pytest.approx(found.seconds, abs=0.1)
    announced, _ = probed_voice(write_film(tmp_path / "film.mkv", seconds=3, sound_seconds=1))
    assert announced is None


def test_a_fragmented_mp4_announces_nothing(tmp_path):
    flags = "frag_keyframe+empty_moov+default_base_moof"
    film = write_film(tmp_path / "film.mp4", seconds=2, sound_seconds=2, movflags=flags)
    assert probed(film)[0] is None


def test_a_format_without_a_length_in_its_header_announces_nothing(voice):
    assert probed_voice(voice)[0] is None
