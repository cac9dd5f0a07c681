"""Sources that the caller holds: uploaded once, or refused by their field."""

from __future__ import annotations

import base64
import os
import threading
import unicodedata
from io import BytesIO
from pathlib import Path

import pytest

from farm.client import Farm
from farm.errors import InvalidInput
from farm.settings import Settings
from farm.store import keys
from tests.support.jobs import FIELDS
from tests.support.submissions import queued, submitted, uploads


@pytest.mark.parametrize(
    "source",
    [
        "http://example.org/face.png",
        "https://example.org/face.png",
        "HTTPS://EXAMPLE.ORG/FACE.PNG",
        "store://uploads/1234",
    ],
)
def test_urls_are_passed_through(farm, source):
    assert submitted(farm, cond_video=source).cond_video == source
    assert uploads(farm) == []


def test_a_file_is_uploaded(farm, portrait):
    request = submitted(farm, cond_video=str(portrait))
    assert request.cond_video == keys.SCHEME + keys.upload(portrait)
    assert (
        farm.context.store.get(request.cond_video.removeprefix(keys.SCHEME))
        == portrait.read_bytes()
    )


def test_a_voice_is_uploaded_too(farm, voice):
    assert submitted(
        farm, cond_audio={"person1": str(voice)}
    ).cond_audio.person1 == keys.SCHEME + keys.upload(voice)


def test_both_recordings_are_uploaded(farm, voice):
    answer = voice.parent / "answer.wav"
    audio = submitted(
        farm, cond_audio={"person1": str(voice), "person2": str(answer)}, audio_type="add"
    ).cond_audio
    assert (audio.person1, audio.person2) == tuple(
        keys.SCHEME + keys.upload(path) for path in (voice, answer)
    )


def test_a_text_to_speak_needs_no_upload(farm):
    request = submitted(farm, cond_audio=None, tts_audio={"text": "hello"})
    assert request.tts_audio.text == "hello"
    assert uploads(farm) == []


def test_a_path_can_be_relative_to_the_working_folder(farm, portrait):
    assert submitted(
        farm, cond_video=os.path.relpath(portrait)
    ).cond_video == keys.SCHEME + keys.upload(portrait)


def test_a_path_may_begin_at_home(farm, portrait, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "face.png").symlink_to(portrait)
    assert submitted(farm, cond_video="~/face.png").cond_video == keys.SCHEME + keys.upload(
        portrait
    )


def test_a_folder_of_uploads_has_no_home(farm, portrait, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(portrait.parent))
    monkeypatch.chdir(tmp_path)
    farm.local_files = tmp_path
    with pytest.raises(InvalidInput, match=r"^cond_video: .*; there is no such file"):
        submitted(farm, cond_video=f"~/{portrait.name}")


def test_a_folder_is_called_one(farm, tmp_path):
    with pytest.raises(InvalidInput, match=r"^cond_video: got '.*'; it is a folder; allowed: "):
        submitted(farm, cond_video=str(tmp_path))


@pytest.mark.parametrize(
    "given",
    [Path, Path.read_bytes, lambda path: path.open("rb"), lambda path: BytesIO(path.read_bytes())],
    ids=["path", "bytes", "file", "memory"],
)
def test_sources_can_be_python_objects(farm, portrait, voice, given):
    request = submitted(farm, cond_video=given(portrait), cond_audio={"person1": given(voice)})
    assert request.cond_video == keys.SCHEME + keys.upload(portrait)
    assert request.cond_audio.person1 == keys.SCHEME + keys.upload(voice)


def test_a_file_in_text_mode_is_refused(farm, tmp_path):
    (tmp_path / "voice.txt").write_text("hello")
    with (tmp_path / "voice.txt").open() as file, pytest.raises(InvalidInput) as caught:
        submitted(farm, cond_audio={"person1": file})
    assert caught.value.message == (
        "cond_audio.person1: got a file in text mode; allowed: one that is open as 'rb'"
    )


@pytest.mark.parametrize("form", ["data:image/png;base64,{}", "{}"], ids=["data URI", "base64"])
def test_bytes_in_the_request_are_uploaded(farm, portrait, form):
    text = form.format(base64.b64encode(portrait.read_bytes()).decode())
    assert submitted(farm, cond_video=text).cond_video == keys.SCHEME + keys.upload(portrait)


def test_the_scheme_of_a_data_uri_can_be_upper_case(farm, portrait):
    face = "DATA:image/png;base64," + base64.b64encode(portrait.read_bytes()).decode()
    assert submitted(farm, cond_video=face).cond_video == keys.SCHEME + keys.upload(portrait)


def test_the_same_bytes_are_uploaded_once(farm, portrait, tmp_path):
    (tmp_path / "copy.png").write_bytes(portrait.read_bytes())
    first = submitted(farm, cond_video=str(portrait))
    second = submitted(farm, cond_video=str(tmp_path / "copy.png"))
    assert first.cond_video == second.cond_video
    assert len(uploads(farm)) == 1


def test_a_pipe_is_read_once(farm, portrait, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[portrait.read_bytes()], daemon=True)
    writer.start()
    face = submitted(farm, cond_video=str(pipe)).cond_video
    writer.join()
    assert face == keys.SCHEME + keys.upload(portrait)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_a_name_may_be_composed_or_decomposed(farm, portrait, tmp_path, form):
    (tmp_path / unicodedata.normalize(form, "müller.png")).write_bytes(portrait.read_bytes())
    for given in ("NFC", "NFD"):
        path = str(tmp_path / unicodedata.normalize(given, "müller.png"))
        assert submitted(farm, cond_video=path).cond_video == keys.SCHEME + keys.upload(portrait)


# Refused


@pytest.mark.parametrize(
    "source",
    [
        "missing.png",
        ".",
        "/",
        "face\0.png",
        "~no-such-user/face.png",
        "a" * 199,
        "/srv/" + "müller/" * 30 + "bild.png",
        "/srv/" + "projects/" * 30 + "face.png",
        "srv/" + "projects/" * 30 + "face",
        "A" * 300,
        "data:image/png;base64,!!!",
    ],
    ids=repr,
)
def test_an_unusable_source_is_rejected_by_its_field(farm, broker, source):
    with pytest.raises(InvalidInput, match=r"^cond_video: "):
        farm.submit({**FIELDS, "cond_video": source})
    assert (farm.jobs(), queued(broker)) == ([], 0)


@pytest.mark.parametrize("name", ["müller", "projects"])
@pytest.mark.parametrize("suffix", ["", ".png"])
def test_a_long_path_of_no_file_is_called_one(farm, name, suffix):
    path = f"/srv/{f'{name}/' * 30}{suffix}"
    with pytest.raises(InvalidInput, match=rf"^cond_video: got '/srv/{name}.* there is no such"):
        farm.submit({**FIELDS, "cond_video": path})


def test_a_long_source_that_is_no_file_is_shortened_in_the_error(farm):
    with pytest.raises(InvalidInput, match="there is no such file") as caught:
        farm.submit({**FIELDS, "cond_video": "a" * 199})
    assert "(201 characters)" in caught.value.message
    assert len(caught.value.message) < 250


def test_an_unreadable_file_is_rejected_by_its_field(farm):
    with pytest.raises(InvalidInput, match=r"^cond_video: got '/proc/self/mem'"):
        farm.submit({**FIELDS, "cond_video": "/proc/self/mem"})


def test_a_path_of_windows_is_called_one(farm):
    for path in (r"C:\Users\anna\face.png", "c:/face.png", r"\\server\face.png"):
        with pytest.raises(InvalidInput, match="it is a path of Windows"):
            farm.submit({**FIELDS, "cond_video": path})


def test_a_name_that_is_not_utf_8_is_refused_by_its_field(farm):
    name = os.fsdecode(b"caf\xe9.png")
    with pytest.raises(
        InvalidInput, match=r"^cond_audio\.person1: got 'caf\\udce9\.png'; .*rename"
    ):
        farm.submit({**FIELDS, "cond_audio": {"person1": name}})


def test_a_missing_recording_is_rejected_by_its_field(farm):
    with pytest.raises(
        InvalidInput, match=r"^cond_audio\.person1: got 'missing.wav'; there is no such file"
    ):
        farm.submit({**FIELDS, "cond_audio": {"person1": "missing.wav"}})


def test_text_that_is_neither_a_file_nor_base64_is_rejected_by_its_field(farm):
    with pytest.raises(InvalidInput, match=r"^cond_video: "):
        farm.submit({**FIELDS, "cond_video": "this is no base64! " * 20})


@pytest.mark.parametrize("path", ["/proc/self/environ", "/etc/passwd", "/no/such/file", "x.png"])
def test_a_stranger_names_no_file_of_this_machine(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"secret")
    farm = Farm("inline://", settings=Settings(home=tmp_path), local_files=False)
    with pytest.raises(InvalidInput) as caught:
        farm.submit(FIELDS, cond_video=path)
    assert "files of this machine may not be named here" in caught.value.message
