"""The Python client: submitting jobs, following them, taking their results."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import threading
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image

from farm.client import Farm, Job
from farm.client.checks import check_media
from farm.engine import journal
from farm.errors import (
    Cancelled,
    CorruptObject,
    DownloadFailed,
    FarmError,
    FarmUnreachable,
    InvalidInput,
    TimedOut,
)
from farm.job import JobRequest, Result
from farm.media.audio import write_wav
from farm.registry.outputs import MuxOutput
from farm.route import Step
from farm.settings import Settings
from farm.store import keys
from tests.support.jobs import resolved
from tests.support.steps import complete

FACE = "https://example.org/face.png"
VOICE = {"person1": "https://example.org/voice.wav"}
GIVEN: dict[str, Any] = {"prompt": "a woman talks", "cond_video": FACE, "cond_audio": VOICE}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """A farm without workers: messages stay in their queue."""
    return Farm(broker, settings=Settings(home=tmp_path / "home"))


def submitted(farm: Farm, **fields: Any) -> JobRequest:
    """The request as the farm stored it."""
    return farm.context.registry.jobs.request(farm.submit({**GIVEN, **fields}).id)


def uploads(farm: Farm) -> list[str]:
    return list(farm.context.store.keys(keys.UPLOADS))


def queued(broker: str, queue: str = "downloads") -> int:
    """Messages in the queue, of all priorities."""
    with redis.Redis.from_url(broker) as client:
        return sum(
            int(client.llen(name)) for name in client.scan_iter(f"farm:{queue}*", _type="list")
        )


def finished(farm: Farm, video: bytes = b"the video") -> Job:
    """A job whose mux step is committed."""
    job = farm.submit(GIVEN)
    registry = farm.context.registry
    farm.context.store.put("jobs/video.mp4", video)
    result = Result(job_id=job.id, status="success")
    output = MuxOutput(result=result, video_key="jobs/video.mp4")
    digests = {"jobs/video.mp4": keys.digest(video)}
    complete(registry, "mux", output, job_id=job.id, digests=digests)
    registry.jobs.end(job.id, "success", result)
    return job


# Submitting


def test_a_submitted_job_is_queued_once(farm, broker):
    job = farm.submit(GIVEN)
    assert (job.status().state, queued(broker), queued(broker, "gpu")) == ("queued", 1, 0)


def test_fields_can_be_given_by_name_or_as_a_request(farm):
    by_name = farm.submit(**GIVEN)
    as_request = farm.submit(JobRequest.parse(GIVEN))
    requests = [farm.context.registry.jobs.request(job.id) for job in (by_name, as_request)]
    assert requests == [resolved(GIVEN)] * 2


def test_fields_override_those_of_a_request(farm):
    job = farm.submit(JobRequest.parse(GIVEN), prompt="another")
    assert farm.context.registry.jobs.request(job.id).prompt == "another"


def test_a_rejected_request_leaves_no_trace(farm, broker, tmp_path):
    with pytest.raises(InvalidInput, match="sample_steps: got 0"):
        farm.submit({**GIVEN, "sample_steps": 0})
    assert (farm.jobs(), queued(broker), list(farm.context.store.keys(""))) == ([], 0, [])


def test_the_store_of_another_farm_is_refused_before_anything_is_written(farm, broker, tmp_path):
    farm.submit(GIVEN)
    other = Farm(broker, settings=Settings(home=tmp_path / "other"))
    for access in (
        lambda: other.submit(GIVEN),
        lambda: list(other.recover()),
        lambda: list(other.gc()),
    ):
        with pytest.raises(InvalidInput, match="FARM_STORE_URL, FARM_BROKER_URL, FARM_NAME"):
            access()
    assert (len(farm.jobs()), list(other.context.store.keys(""))) == (1, [])


def test_a_client_compares_store_and_broker_once(farm, monkeypatch):
    checked = []
    monkeypatch.setattr("farm.client.farm.check_identity", checked.append)
    for _ in range(2):
        farm.submit(GIVEN)
    assert checked == [farm.context]


def test_the_accepted_request_is_stored(farm):
    job = farm.submit(GIVEN)
    status = job.status()
    submitted = journal.read_request(farm.context.store, job.id)
    assert submitted.request == farm.context.registry.jobs.request(job.id)
    assert status.created_at - 5 < submitted.submitted_at <= status.created_at
    assert submitted.caller == status.caller == farm.caller


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


@pytest.mark.parametrize("form", ["data:image/png;base64,{}", "{}"], ids=["data URI", "base64"])
def test_bytes_in_the_request_are_uploaded(farm, portrait, form):
    text = form.format(base64.b64encode(portrait.read_bytes()).decode())
    assert submitted(farm, cond_video=text).cond_video == keys.SCHEME + keys.upload(portrait)


def test_the_same_bytes_are_uploaded_once(farm, portrait, tmp_path):
    (tmp_path / "copy.png").write_bytes(portrait.read_bytes())
    first = submitted(farm, cond_video=str(portrait))
    second = submitted(farm, cond_video=str(tmp_path / "copy.png"))
    assert first.cond_video == second.cond_video
    assert len(uploads(farm)) == 1


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
        farm.submit({**GIVEN, "cond_video": source})
    assert (farm.jobs(), queued(broker)) == ([], 0)


@pytest.mark.parametrize("name", ["müller", "projects"])
@pytest.mark.parametrize("suffix", ["", ".png"])
def test_a_long_path_of_no_file_is_called_one(farm, name, suffix):
    path = f"/srv/{f'{name}/' * 30}{suffix}"
    with pytest.raises(InvalidInput, match=rf"^cond_video: got '/srv/{name}.* there is no such"):
        farm.submit({**GIVEN, "cond_video": path})


def test_an_unreadable_file_is_rejected_by_its_field(farm):
    with pytest.raises(InvalidInput, match=r"^cond_video: got '/proc/self/mem'"):
        farm.submit({**GIVEN, "cond_video": "/proc/self/mem"})


def test_the_scheme_of_a_data_uri_can_be_upper_case(farm, portrait):
    face = "DATA:image/png;base64," + base64.b64encode(portrait.read_bytes()).decode()
    assert submitted(farm, cond_video=face).cond_video == keys.SCHEME + keys.upload(portrait)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cond_video": "data:image/png;base64,AAAA"}, "cond_video: the file holds data of an un"),
        ({"cond_video": "voice"}, "cond_video: the file holds audio, not an image or a video"),
        ({"cond_audio": {"person1": "face"}}, "cond_audio.person1: the file holds an image"),
        ({"cond_audio": {"person1": "blip"}}, "cond_audio.person1: it lasts 0.039 s; allowed: 0.0"),
        ({"cond_video": "face", "scene_seg": True}, "scene_seg: got True, but cond_video is an"),
        ({"cond_video": "face", "bbox": [0, 0, 513, 9]}, "bbox.person1: got [0, 0, 513, 9]; allow"),
        (
            {"cond_audio": None, "tts_audio": {"text": "hello", "human1_voice": "klingon"}},
            "tts_audio.human1_voice: got 'klingon'",
        ),
    ],
    ids=str,
)
def test_what_a_worker_would_refuse_is_refused_before_it_is_uploaded(
    farm, broker, portrait, voice, tmp_path, fields, message
):
    write_wav(tmp_path / "blip.wav", np.zeros(624, np.float32), 16_000)
    paths = {"face": portrait, "voice": voice, "blip": tmp_path / "blip.wav"}
    request = JobRequest.parse({**GIVEN, **fields})
    request = request.with_sources(lambda source, _: str(paths.get(source, source)))
    with pytest.raises(InvalidInput) as caught:
        farm.submit(request)
    assert caught.value.message.startswith(message)
    assert (farm.jobs(), queued(broker), uploads(farm)) == ([], 0, [])


@pytest.mark.parametrize(
    ("setting", "field"), [("max_visual_bytes", "cond_video"), ("max_audio_bytes", "cond_audio")]
)
def test_a_file_beyond_the_limit_is_refused_before_it_is_uploaded(
    farm, portrait, voice, setting, field
):
    files = {"cond_video": str(portrait), "cond_audio": {"person1": str(voice)}}
    request = {**GIVEN, field: files[field]}
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
        farm.submit({**GIVEN, "cond_video": str(face)})


def test_a_client_without_the_libraries_for_media_leaves_the_checks_to_workers(
    farm, voice, monkeypatch
):
    monkeypatch.setattr("farm.client.checks.can_probe", lambda: False)
    assert submitted(farm, cond_video=str(voice)).cond_video == keys.SCHEME + keys.upload(voice)


def test_a_pipe_is_read_once(farm, portrait, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[portrait.read_bytes()], daemon=True)
    writer.start()
    face = submitted(farm, cond_video=str(pipe)).cond_video
    writer.join()
    assert face == keys.SCHEME + keys.upload(portrait)


def test_a_path_of_windows_is_called_one(farm):
    for path in (r"C:\Users\anna\face.png", "c:/face.png", r"\\server\face.png"):
        with pytest.raises(InvalidInput, match="it is a path of Windows"):
            farm.submit({**GIVEN, "cond_video": path})


def test_a_name_that_is_not_utf_8_is_refused_by_its_field(farm):
    name = os.fsdecode(b"caf\xe9.png")
    with pytest.raises(
        InvalidInput, match=r"^cond_audio\.person1: got 'caf\\udce9\.png'; .*rename"
    ):
        farm.submit({**GIVEN, "cond_audio": {"person1": name}})


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_a_name_may_be_composed_or_decomposed(farm, portrait, tmp_path, form):
    (tmp_path / unicodedata.normalize(form, "müller.png")).write_bytes(portrait.read_bytes())
    for given in ("NFC", "NFD"):
        path = str(tmp_path / unicodedata.normalize(given, "müller.png"))
        assert submitted(farm, cond_video=path).cond_video == keys.SCHEME + keys.upload(portrait)


def test_a_missing_recording_is_rejected_by_its_field(farm):
    with pytest.raises(
        InvalidInput, match=r"^cond_audio\.person1: got 'missing.wav'; there is no such file"
    ):
        farm.submit({**GIVEN, "cond_audio": {"person1": "missing.wav"}})


def test_text_that_is_neither_a_file_nor_base64_is_rejected_by_its_field(farm):
    with pytest.raises(InvalidInput, match=r"^cond_video: "):
        farm.submit({**GIVEN, "cond_video": "this is no base64! " * 20})


def test_a_given_seed_is_kept(farm):
    assert [submitted(farm, base_seed=seed).base_seed for seed in (0, 42, 2**63 - 1)] == [
        0,
        42,
        2**63 - 1,
    ]


def test_a_random_seed_is_drawn_once_per_job(farm):
    jobs = [farm.submit({**GIVEN, "base_seed": -1}) for _ in range(4)]
    drawn = [farm.context.registry.jobs.request(job.id).base_seed for job in jobs]
    assert min(drawn) >= 0
    assert len(set(drawn)) == 4
    assert [farm.context.registry.jobs.request(job.id).base_seed for job in jobs] == drawn


def test_the_same_idempotency_key_gives_the_same_job_and_one_message(farm, broker):
    jobs = [farm.submit({**GIVEN, "idempotency_key": "order 66"}) for _ in range(3)]
    assert len({job.id for job in jobs}) == len(farm.jobs()) == queued(broker) == 1


def test_another_idempotency_key_gives_another_job(farm):
    assert (
        farm.submit({**GIVEN, "idempotency_key": "a"}).id
        != farm.submit({**GIVEN, "idempotency_key": "b"}).id
    )


class FailingTransport:
    """A transport whose broker is down."""

    def dispatch(self, job_id: str, step: Step) -> None:
        raise FarmUnreachable("the broker did not accept it")


def test_a_job_whose_dispatch_failed_is_dispatched_when_it_is_submitted_again(farm, broker):
    transport = farm.transport
    farm.transport = FailingTransport()
    with pytest.raises(FarmUnreachable):
        farm.submit({**GIVEN, "idempotency_key": "order 66"})
    farm.transport = transport
    farm.submit({**GIVEN, "idempotency_key": "order 66"})
    assert (len(farm.jobs()), queued(broker)) == (1, 1)


def test_another_request_under_the_same_idempotency_key_is_refused(farm, broker):
    job = farm.submit({**GIVEN, "idempotency_key": "order 66"})
    with pytest.raises(
        InvalidInput,
        match=f"^idempotency_key: got 'order 66'; job {job.id} was .* with it and another prompt;",
    ):
        farm.submit({**GIVEN, "idempotency_key": "order 66", "prompt": "another"})
    assert (len(farm.jobs()), queued(broker)) == (1, 1)
    assert farm.context.registry.jobs.request(job.id).prompt == GIVEN["prompt"]


def test_the_same_bytes_in_another_form_are_the_same_request(farm, portrait, tmp_path):
    (tmp_path / "copy.png").write_bytes(portrait.read_bytes())
    encoded = base64.b64encode(portrait.read_bytes()).decode()
    sources = (str(portrait), str(tmp_path / "copy.png"), f"data:image/png;base64,{encoded}")
    keyed = {**GIVEN, "idempotency_key": "order 66"}
    assert len({farm.submit({**keyed, "cond_video": source}).id for source in sources}) == 1


def test_a_random_seed_is_drawn_once_per_idempotency_key(farm):
    jobs = [
        farm.submit({**GIVEN, "base_seed": -1, "idempotency_key": key}) for key in ("a", "a", "b")
    ]
    assert jobs[0].id == jobs[1].id
    seeds = [farm.context.registry.jobs.request(job.id).base_seed for job in jobs]
    assert seeds[0] != seeds[2]


def test_a_job_id_cannot_be_guessed(farm):
    assert re.fullmatch("[0-9a-f]{32}", farm.submit(GIVEN).id)


def test_two_jobs_have_two_ids(farm):
    assert farm.submit(GIVEN).id != farm.submit(GIVEN).id


def test_a_farm_whose_broker_is_down_is_unreachable(tmp_path):
    farm = Farm("redis://127.0.0.1:1/0", settings=Settings(home=tmp_path))
    with pytest.raises(FarmUnreachable, match=r"no broker answers at 127\.0\.0\.1:1"):
        farm.submit(GIVEN)


def test_a_home_without_a_farm_says_how_to_start_one(tmp_path):
    with pytest.raises(FarmUnreachable, match="start one with `farm up`, or set FARM_BROKER_URL"):
        Farm(settings=Settings(home=tmp_path))


# Limits of the operator


@pytest.mark.parametrize(
    ("setting", "fields", "message"),
    [
        (
            {"max_tts_characters": 9},
            {"text": "a" * 10},
            "tts_audio.text: got 10 characters; allowed: 9 (FARM_MAX_TTS_CHARACTERS)",
        ),
        (
            {"max_tts_turns": 2},
            {"text": "(s1) a (s2) b (s1) c", "human2_voice": "en-gb"},
            "tts_audio.text: got 3 turns; allowed: 2 (FARM_MAX_TTS_TURNS)",
        ),
    ],
    ids=["characters", "turns"],
)
def test_a_text_beyond_a_limit_is_refused_before_anything_is_stored(
    broker, tmp_path, portrait, setting, fields, message
):
    farm = Farm(settings=Settings(home=tmp_path, broker_url=broker, **setting))
    with pytest.raises(InvalidInput) as caught:
        farm.submit(prompt="x", cond_video=str(portrait), tts_audio=fields)
    assert caught.value.message == message
    assert list(farm.context.store.keys("")) == []


def test_a_request_beyond_the_limit_is_refused_without_counting_its_files(
    broker, tmp_path, portrait
):
    settings = Settings(home=tmp_path, broker_url=broker, max_request_bytes=3000)
    farm = Farm(settings=settings)
    encoded = base64.b64encode(portrait.read_bytes()).decode()
    assert len(encoded) > 5000
    farm.submit({**GIVEN, "cond_video": f"data:image/png;base64,{encoded}"})
    with pytest.raises(
        InvalidInput, match=r"^request: got 3,\d\d\d bytes; allowed: 3,000 \(FARM_MAX_REQUEST_BYTES"
    ):
        farm.submit({**GIVEN, "prompt": "a" * 3000})


def test_a_long_source_that_is_no_file_is_shortened_in_the_error(farm):
    with pytest.raises(InvalidInput, match="there is no such file") as caught:
        farm.submit({**GIVEN, "cond_video": "a" * 199})
    assert "(201 characters)" in caught.value.message
    assert len(caught.value.message) < 250


# Following


def test_an_unknown_job_is_rejected(farm):
    with pytest.raises(InvalidInput, match="job_id: got 'unknown'"):
        farm.job("unknown")


def test_a_job_is_found_by_its_id(farm):
    job = farm.submit(GIVEN)
    assert farm.job(job.id).status() == job.status()


def test_jobs_are_listed_newest_first(farm):
    ids = [farm.submit(GIVEN).id for _ in range(3)]
    assert [status.job_id for status in farm.jobs()] == ids[::-1]
    assert [status.job_id for status in farm.jobs(limit=1)] == ids[2:]


def test_jobs_are_filtered_by_state(farm):
    jobs = [farm.submit(GIVEN) for _ in range(3)]
    jobs[1].cancel()
    assert [status.job_id for status in farm.jobs(state="cancelled")] == [jobs[1].id]
    assert [status.job_id for status in farm.jobs(1, state="queued")] == [jobs[2].id]


def test_jobs_are_filtered_by_submission_time(farm):
    first = farm.submit(GIVEN)
    second = farm.submit(GIVEN)
    moment = second.status().created_at
    assert first.status().created_at < moment
    assert [status.job_id for status in farm.jobs(since=moment)] == [second.id]
    assert farm.jobs(since=datetime.fromtimestamp(moment, UTC)) == farm.jobs(since=moment)
    assert farm.jobs(since=moment + 60) == []


def test_a_batch_is_submitted_one_by_one(farm):
    jobs = farm.submit_batch([GIVEN, JobRequest.parse(GIVEN), {"prompt": "no face"}])
    assert next(jobs).id != next(jobs).id
    with pytest.raises(InvalidInput, match="cond_video: it is missing"):
        next(jobs)


def test_an_invalid_request_of_a_batch_does_not_stop_the_others(farm):
    jobs = farm.submit_batch([{"prompt": "no face"}, GIVEN])
    with pytest.raises(InvalidInput):
        next(jobs)
    assert next(jobs).status().state == "queued"
    assert list(jobs) == []


def test_the_contracts_batch_is_submitted_item_by_item(farm):
    jobs = farm.submit_batch({"batch": ["x", {"id": "a", **GIVEN}, {**GIVEN, "prompt": "another"}]})
    with pytest.raises(InvalidInput, match="got str; allowed: an object"):
        next(jobs)
    assert [farm.context.registry.jobs.request(job.id).prompt for job in jobs] == [
        GIVEN["prompt"],
        "another",
    ]


def test_events_can_be_read_by_an_async_loop(farm):
    job = farm.submit(GIVEN)

    async def stages() -> list[str]:
        threading.Timer(0.2, job.cancel).start()
        return [event.stage async for event in job.aevents()]

    assert asyncio.run(stages()) == ["cancelled"]


def test_events_end_with_the_job(farm):
    job = farm.submit(GIVEN)
    job.cancel()
    assert [event.stage for event in job.events()] == ["cancelled"]


def test_wait_times_out_while_the_job_continues(farm):
    job = farm.submit(GIVEN)
    with pytest.raises(TimedOut, match=r"has not ended within 0\.1 s; it is at queued"):
        job.wait(0.1)
    assert job.status().state == "queued"


def test_the_result_of_a_finished_job_is_returned(farm):
    job = finished(farm)
    assert job.result(timeout_s=1) == Result(job_id=job.id, status="success")


@pytest.mark.parametrize("kind", FarmError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_the_result_of_a_failed_job_raises_its_error(farm, kind):
    job = farm.submit(GIVEN)
    farm.context.registry.jobs.fail(job.id, kind("the reason", retryable=True), at_stage="mux")
    with pytest.raises(kind, match=r"^the reason$") as caught:
        job.result(timeout_s=1)
    assert caught.value.retryable


def test_a_cancelled_job_names_who_cancelled_it(farm):
    job = farm.submit(GIVEN)
    assert job.cancel(by="the operator")
    assert not job.cancel()
    with pytest.raises(Cancelled, match="cancelled by the operator at queued"):
        job.result(timeout_s=1)


def test_many_jobs_are_cancelled_at_once(farm):
    jobs = [farm.submit(GIVEN) for _ in range(3)]
    jobs[1].cancel()
    ids = [job.id for job in jobs]
    assert farm.cancel([*ids, ids[0]], by="the operator") == dict(
        zip(ids, [True, False, True], strict=True)
    )
    assert [job.status().state for job in jobs] == ["cancelled"] * 3
    with pytest.raises(Cancelled, match="cancelled by the operator"):
        jobs[2].result(timeout_s=1)


def test_no_job_is_cancelled_if_one_is_unknown(farm):
    job = farm.submit(GIVEN)
    with pytest.raises(InvalidInput, match="job_id: got 'unknown'"):
        farm.cancel([job.id, "unknown"])
    assert job.status().state == "queued"


def test_the_video_can_be_saved(farm, tmp_path):
    path = finished(farm).save(tmp_path / "out.mp4")
    assert (path, path.read_bytes()) == (tmp_path / "out.mp4", b"the video")


def test_saving_replaces_a_file_and_leaves_no_temporary_one(farm, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "out.mp4").write_bytes(b"an older video")
    finished(farm).save(tmp_path / "out" / "out.mp4")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [
        ("out.mp4", b"the video")
    ]


def test_saving_twice_leaves_one_file(farm, tmp_path):
    (tmp_path / "out").mkdir()
    job = finished(farm)
    for _ in range(2):
        job.save(tmp_path / "out" / "out.mp4")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.mp4"]


def test_changing_a_saved_video_does_not_change_the_stored_one(farm, tmp_path):
    job = finished(farm)
    with job.save(tmp_path / "out.mp4").open("r+b") as file:
        file.write(b"THE")
    assert farm.context.store.get("jobs/video.mp4") == b"the video"


@pytest.mark.parametrize("path", ["/missing/out.mp4", "/proc/out.mp4", "/dev/null/out.mp4"])
def test_an_unwritable_output_is_rejected(farm, path):
    with pytest.raises(
        InvalidInput, match=f"output: got '{path}'; allowed: a file in a writable folder"
    ):
        finished(farm).save(Path(path))


def test_a_video_lost_by_the_store_is_a_download_error(farm, tmp_path):
    job = finished(farm)
    farm.context.store.delete("jobs/video.mp4")
    with pytest.raises(DownloadFailed, match=f"the store holds no video of job {job.id}"):
        job.save(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_damaged_in_the_store_is_not_saved(farm, tmp_path):
    job = finished(farm)
    farm.context.store.put("jobs/video.mp4", b"the vide0")
    with pytest.raises(CorruptObject, match=r"jobs/video\.mp4 is corrupt"):
        job.save(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_failed_job_has_nothing_to_save(farm, tmp_path):
    job = farm.submit(GIVEN)
    job.cancel()
    with pytest.raises(Cancelled):
        job.save(tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


# Inline


def test_an_inline_job_can_fail_without_a_broker(tmp_path):
    farm = Farm("inline://", settings=Settings(home=tmp_path))
    missing = "store://uploads/" + "0" * 64
    job = farm.submit({**GIVEN, "cond_video": missing, "cond_audio": {"person1": missing}})
    with pytest.raises(FarmError, match="the store holds no uploads/0000"):
        job.result(timeout_s=20)
    assert [event.stage for event in job.events()][-1] == "error"


# Requests of strangers


@pytest.mark.parametrize("path", ["/proc/self/environ", "/etc/passwd", "/no/such/file", "x.png"])
def test_a_stranger_names_no_file_of_this_machine(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"secret")
    farm = Farm("inline://", settings=Settings(home=tmp_path), local_files=False)
    with pytest.raises(InvalidInput) as caught:
        farm.submit(GIVEN, cond_video=path)
    assert "files of this machine may not be named here" in caught.value.message


def test_a_stranger_names_files_of_one_folder_which_are_decoded_in_a_sandbox(tmp_path, monkeypatch):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    Image.new("RGB", (64, 64)).save(uploads / "face.png")
    (uploads / "link.png").symlink_to("/etc/passwd")
    farm = Farm("inline://", settings=Settings(home=tmp_path), local_files=uploads)
    for path in (uploads / "link.png", uploads / ".." / "x.png"):
        with pytest.raises(InvalidInput, match="files of this machine may not be named here"):
            farm.submit(GIVEN, cond_video=str(path))
    sandboxed = []
    monkeypatch.setattr(
        "farm.media.sandbox.sandboxed", lambda function: sandboxed.append(function) or function
    )
    request = JobRequest.parse({**GIVEN, "cond_video": str(uploads / "face.png")})
    check_media(request, farm.context.settings, uploads)
    assert [function.__name__ for function in sandboxed] == ["describe_visual"]
