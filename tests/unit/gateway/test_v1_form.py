"""A request as a form, with the face and the voice as files."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from urllib3 import encode_multipart_formdata

from farm.client import Farm
from farm.gateway.body import Limits
from farm.gateway.refusal import Refusal
from farm.gateway.v1.form import Form
from farm.gateway.v1.uploads import Room
from farm.settings import Settings
from farm.store import keys
from tests.conftest import EXAMPLES
from tests.support.gateway import Answer, Client, running_gateway
from tests.support.jobs import FIELDS
from tests.unit.gateway.conftest import Key

PORTRAIT = (EXAMPLES / "portrait.png").read_bytes()
VOICE = (EXAMPLES / "speech.wav").read_bytes()

Parts = dict[str, str | tuple[str, bytes]]

FACE_AND_VOICE: Parts = {
    "prompt": "a woman talks",
    "cond_video": ("face.png", PORTRAIT),
    "cond_audio.person1": ("../../voice.wav", VOICE),
}
URLS: Parts = {
    "prompt": "a woman talks",
    "cond_video": FIELDS["cond_video"],
    "cond_audio.person1": FIELDS["cond_audio"]["person1"],
}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which uploads are."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def post(client: Client, parts: Parts | list[tuple[str, str]], **headers: str) -> Answer:
    body, kind = encode_multipart_formdata(parts)
    return client.send("POST", "/v1/jobs", body, **{"Content-Type": kind, **headers})


def test_files_become_uploads_of_the_job_and_leave_nothing_here(
    client: Client, farm: Farm, temporary: Path
):
    answer = post(client, {**FACE_AND_VOICE, "sample_steps": "4", "use_apg": "true"})

    assert answer.status == 201, answer.body
    request = farm.context.registry.jobs.request(answer.body["job_id"])
    assert (request.prompt, request.sample_steps, request.use_apg) == ("a woman talks", 4, True)
    stored = {request.cond_video: PORTRAIT, request.cond_audio.person1: VOICE}
    for url, content in stored.items():
        assert farm.context.store.get(url.removeprefix(keys.SCHEME)) == content
    assert list(temporary.iterdir()) == []


def test_a_part_may_be_a_url_and_an_empty_one_is_none(client: Client, farm: Farm):
    answer = post(client, {**URLS, "size": "", "cond_audio.person2": ("", b"")})

    assert answer.status == 201, answer.body
    request = farm.context.registry.jobs.request(answer.body["job_id"])
    assert request.cond_video == FIELDS["cond_video"]
    assert request.speakers == 1


def test_parts_may_have_the_short_names_of_the_command_line(client: Client, farm: Farm):
    two = {"image": ("a.png", PORTRAIT), "audio": ("a.wav", VOICE), "audio2": ("b.wav", VOICE)}
    answer = post(client, {**two, "audio_type": "add"})

    assert answer.status == 201, answer.body
    request = farm.context.registry.jobs.request(answer.body["job_id"])
    assert (request.speakers, request.cond_audio.person1) == (2, request.cond_audio.person2)
    spoken = {"video": FIELDS["cond_video"], "text": "(s1) a (s2) b", "voice": "de", "voice2": "fr"}
    request = farm.context.registry.jobs.request(post(client, spoken).body["job_id"])
    assert (request.tts_audio.human1_voice, request.tts_audio.human2_voice) == ("de", "fr")


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ({"image": "/etc/passwd", "text": "a"}, 422, "image: got '/etc/passwd'; files of this"),
        ({"image": "", "text": "a"}, 422, "image: it is missing; "),
        ({"image": ("a.png", b"a" * 40_001), "text": "a"}, 413, "image: it is too long; allowed"),
        ({"image": "https://a/i", "voice": "klingon", "text": "a"}, 422, "voice: got 'klingon'; "),
        (
            {"image": "https://a/i", "text": "a", "audio": "https://a/a"},
            422,
            'audio: got {"person1": "https://a/a"}; give exactly one of audio (audio) and text',
        ),
        ({"image": "https://a/i", "cond_video": "https://a/i"}, 422, "cond_video: it is given"),
        ({"cond_video": "https://a/i", "video": ("a", b"a")}, 422, "video: it is given twice; "),
        ({"text": ("a", b"a")}, 422, "text: got a file; allowed: a text; files are cond_video, "),
        (
            {"image_url": "https://a/i"},
            422,
            "image_url: there is no such field; did you mean image?",
        ),
        ({"audio_file": "a"}, 422, "audio_file: there is no such field; did you mean audio?"),
        ({"photo": "a"}, 422, "photo: there is no such field"),
    ],
)
def test_errors_have_the_names_that_a_form_has(
    bounded: Client, parts: Parts, status: int, message: str
):
    answer = post(bounded, parts)

    assert answer.status == status
    assert answer.message.startswith(message)


@pytest.mark.parametrize(
    ("parts", "status", "field"),
    [
        ({**URLS, "promt": "a"}, 422, "promt"),
        ({**URLS, "sample_steps": "many"}, 422, "sample_steps"),
        ({**URLS, "prompt": ("a.txt", b"a")}, 422, "prompt"),
        ({**URLS, "cond_audio": "{}"}, 422, "cond_audio"),
        ([*URLS.items(), ("prompt", "another")], 422, "prompt"),
        ({**URLS, "cond_video": "/etc/passwd"}, 422, "cond_video"),
        ({**URLS, "cond_video": "http://127.0.0.1/face.png"}, 422, "cond_video"),
        ({**URLS, "cond_video": "store://jobs/a/request.json"}, 422, "cond_video"),
        ({**URLS, "cond_video": ("face.png", b"no image")}, 422, "cond_video"),
        ({**URLS, "negative_prompt": b"\xff"}, 400, "negative_prompt"),
        ({**URLS, "prompt": "a" * 300_000}, 413, "prompt"),
    ],
)
def test_a_wrong_form_is_refused_by_its_part(
    client: Client, temporary: Path, parts: Parts, status: int, field: str
):
    answer = post(client, parts)

    assert (answer.status, answer.field) == (status, field)
    assert str(temporary) not in answer.message
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("multipart/form-data", b"", "Content-Type"),
        ("multipart/form-data; boundary=a", b"", "body"),
        ("multipart/form-data; boundary=a", b"no form", "body"),
        ("multipart/form-data; boundary=a", b"--a\r\n", "body"),
        (f"multipart/form-data; boundary={'a' * 999}", b"", "body"),
        ("multipart/form-data; boundary=a", b"--a\r\nX: " + b"b" * 9_000, "body"),
    ],
)
def test_what_is_no_form_is_refused(client: Client, kind: str, body: bytes, field: str):
    answer = client.send("POST", "/v1/jobs", body, **{"Content-Type": kind})

    assert (answer.status, answer.field) == (400, field)


def test_a_part_without_a_name_is_refused(client: Client):
    body = b"--a\r\nContent-Disposition: form-data\r\n\r\nb\r\n--a--\r\n"

    answer = client.send(
        "POST", "/v1/jobs", body, **{"Content-Type": "multipart/form-data; boundary=a"}
    )

    assert answer.status == 422


# Limits of the disk


@pytest.fixture
def bounded(broker: str, tmp_path: Path) -> Iterator[Client]:
    """A gateway that takes short files only."""
    settings = Settings(
        home=tmp_path / "home",
        broker_url=broker,
        store_url="memory://",
        max_visual_bytes=40_000,
        max_audio_bytes=1_000,
        gateway_upload_bytes=100_000,
    )
    farm = Farm(settings=settings, local_files=False)
    with running_gateway(farm, limits=Limits(silent_s=2)) as client:
        yield client


@pytest.mark.parametrize(("part", "size"), [("cond_video", 40_001), ("cond_audio.person1", 1_001)])
def test_a_file_that_is_too_long_is_413(bounded: Client, temporary: Path, part: str, size: int):
    answer = post(bounded, {**URLS, part: ("a", b"a" * size)})

    assert (answer.status, answer.field) == (413, part)
    assert answer.body["error"]["mistakes"][0]["allowed"] == f"{size - 1:,} bytes"
    assert list(temporary.iterdir()) == []


def test_a_form_beyond_what_one_caller_may_take_is_413(bounded: Client):
    answer = post(bounded, {**URLS, "cond_video": ("a", b"a" * 39_000), "bbox": "a" * 12_000})

    assert answer.status == 413
    assert answer.message == "body: it is too long; allowed: 50,000 bytes"


def test_one_caller_leaves_half_of_the_room_to_others():
    room = Room(100)
    with room.upload("anna") as first, room.upload("anna") as second, room.upload("bert") as third:
        first.take(30)
        with pytest.raises(Refusal, match="too many files") as refused:
            second.take(21)
        third.take(50)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})

    with room.upload("anna") as again:
        again.take(50)


STOPPED = b"""POST /v1/jobs HTTP/1.1\r
Host: localhost\r
Content-Length: 999\r
Content-Type: multipart/form-data; boundary=a\r
\r
--a\r
Content-Disposition: form-data; name=cond_video; filename=face.png\r
\r
the beginning of a face"""


def test_a_form_that_stops_is_refused_and_leaves_nothing(bounded: Client, temporary: Path):
    host, _, port = bounded.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(STOPPED)
        assert connection.recv(999).startswith(b"HTTP/1.1 408 ")
    assert list(temporary.iterdir()) == []


def test_a_disk_that_takes_no_more_is_503(tmp_path: Path):
    form = Form(b"a", tmp_path / "missing", Settings(home=tmp_path))

    with pytest.raises(Refusal, match="no room for files") as refused:
        form.write(STOPPED.partition(b"\r\n\r\n")[2])

    assert refused.value.status == 503


def test_a_form_needs_a_key_before_anything_is_read(client: Client, key: Key, temporary: Path):
    key("anna")

    assert post(client, FACE_AND_VOICE).status == 401
    assert list(temporary.iterdir()) == []
