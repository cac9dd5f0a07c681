"""What a worker would refuse of a job's files, refused before they are uploaded."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from farm.client import Farm
from farm.client.checks import check_media
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.media.audio import write_wav
from farm.settings import Settings
from farm.store import keys
from tests.support.jobs import FIELDS
from tests.support.submissions import queued, submitted, uploads


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cond_video": "data:image/png;base64,AAAA"}, "cond_video: the file holds data of an un"),
        ({"cond_video": "voice"}, "cond_video: the file holds audio, not an image or a video"),
        ({"cond_audio": {"person1": "face"}}, "cond_audio.person1: the file holds an image"),
        ({"cond_audio": {"person1": "blip"}}, "cond_audio.person1: it lasts 0.039 s; allowed: 0.0"),
        ({"cond_video": "face", "scene_seg": True}, "scene_seg: got True, but cond_video is an"),
        ({"cond_video": "face", "bbox": [0, 0, 513, 9]}, "bbox.person1: got [0, 0, 513, 9]; allow"),
    ],
    ids=str,
)
def test_what_a_worker_would_refuse_is_refused_before_it_is_uploaded(
    farm, broker, portrait, voice, tmp_path, fields, message
):
    write_wav(tmp_path / "blip.wav", np.zeros(624, np.float32), 16_000)
    paths = {"face": portrait, "voice": voice, "blip": tmp_path / "blip.wav"}
    request = JobRequest.parse({**FIELDS, **fields})
    request = request.with_sources(lambda source, _: str(paths.get(source, source)))
    with pytest.raises(InvalidInput) as caught:
        farm.submit(request)
    assert caught.value.message.startswith(message)
    assert (farm.jobs(), queued(broker), uploads(farm)) == ([], 0, [])


def test_all_that_is_wrong_is_refused_at_once(farm, portrait, voice):
    wrong = {
        "cond_video": str(voice),
        "cond_audio": {"person1": str(portrait)},
        "webhook": "https://example.org/hook",
        "output_config": {"store": "volume"},
    }
    with pytest.raises(InvalidInput) as caught:
        farm.submit(prompt="x", **wrong)
    named = [line.partition(":")[0] for line in caught.value.message.splitlines()]
    assert named == ["webhook", "output_config.store", "cond_video", "cond_audio.person1"]


def test_all_wrong_boxes_are_refused_at_once(farm, portrait):
    boxes = {"person1": [0, 0, 513, 9], "person2": [0, 0, 20, 9999]}
    two = {"person1": "https://a/1.wav", "person2": "https://a/2.wav"}
    request = {"prompt": "x", "cond_video": str(portrait), "cond_audio": two, "audio_type": "add"}
    with pytest.raises(InvalidInput) as caught:
        farm.submit(request, bbox=boxes, scene_seg=True)
    named = [line.partition(":")[0] for line in caught.value.message.splitlines()]
    assert named == ["bbox.person1", "bbox.person2", "scene_seg"]


@pytest.mark.parametrize(
    ("setting", "field"), [("max_visual_bytes", "cond_video"), ("max_audio_bytes", "cond_audio")]
)
def test_a_file_beyond_the_limit_is_refused_before_it_is_uploaded(
    farm, portrait, voice, setting, field
):
    files = {"cond_video": str(portrait), "cond_audio": {"person1": str(voice)}}
    request = {**FIELDS, field: files[field]}
    strict = Farm(settings=farm.context.settings.model_copy(update={setting: 100}))
    with pytest.raises(InvalidInput, match=r"^cond_.*: it has [0-9,]+ bytes; allowed: 100$"):
        strict.submit(request)
    assert uploads(farm) == []


def test_a_file_that_was_replaced_is_checked_again(farm, portrait, voice, tmp_path):
    face = tmp_path / "face.png"
    face.write_bytes(portrait.read_bytes())
    submitted(farm, cond_video=str(face))
    face.write_bytes(voice.read_bytes())
    with pytest.raises(InvalidInput, match="cond_video: the file holds audio"):
        farm.submit({**FIELDS, "cond_video": str(face)})


def test_a_client_without_the_libraries_for_media_leaves_the_checks_to_workers(
    farm, voice, monkeypatch
):
    monkeypatch.setattr("farm.client.checks.can_probe", lambda: False)
    assert submitted(farm, cond_video=str(voice)).cond_video == keys.SCHEME + keys.upload(voice)


def test_a_stranger_names_files_of_one_folder_which_are_decoded_in_a_sandbox(tmp_path, monkeypatch):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    Image.new("RGB", (64, 64)).save(uploads / "face.png")
    (uploads / "link.png").symlink_to("/etc/passwd")
    farm = Farm("inline://", settings=Settings(home=tmp_path), local_files=uploads)
    for path in (uploads / "link.png", uploads / ".." / "x.png"):
        with pytest.raises(InvalidInput, match="files of this machine may not be named here"):
            farm.submit(FIELDS, cond_video=str(path))
    sandboxed = []
    monkeypatch.setattr(
        "farm.media.sandbox.sandboxed", lambda function: sandboxed.append(function) or function
    )
    request = JobRequest.parse({**FIELDS, "cond_video": str(uploads / "face.png")})
    check_media(request, farm.context.settings, uploads)
    assert [function.__name__ for function in sandboxed] == ["describe_visual"]


def test_a_video_is_refused_for_a_model_that_was_trained_with_images(broker, portrait, tmp_path):
    settings = Settings(home=tmp_path, broker_url=broker, presets="miniature-flashtalk")
    film = portrait.with_name("sitter.mp4")
    with pytest.raises(InvalidInput, match=r"^cond_video: got a video; the model mini"):
        Farm(settings=settings).submit({**FIELDS, "cond_video": str(film)})
