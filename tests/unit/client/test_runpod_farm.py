"""`Farm("runpod://ENDPOINT_ID")`: what is submitted, and how its jobs are found again."""

from __future__ import annotations

import base64
from copy import copy
from pathlib import Path

import pytest

from farm.client import Farm
from farm.client.runpod.endpoint import Endpoint
from farm.client.runpod.farm import RunpodFarm
from farm.client.runpod.submissions import Submissions
from farm.errors import InvalidInput
from farm.job import JobRequest, TimeLimits
from farm.net.runpod import QueueApi, RunpodUnreachable
from farm.settings import Settings
from farm.store import keys
from tests.conftest import EXAMPLES
from tests.support.api_server import ApiServer
from tests.support.endpoint import (
    RUN,
    accept_jobs,
    endpoint_settings,
    farm_of,
    posted,
    result,
    say,
)
from tests.support.jobs import FIELDS
from tests.support.ports import free_port
from tests.support.swift import Swift

S3_FIELDS = [name for name in Settings.model_fields if name.startswith("s3_")]


@pytest.fixture
def farm(server: ApiServer, tmp_path: Path) -> Farm:
    return farm_of(server, tmp_path / "home")


# Which class


def test_a_url_of_runpod_is_an_endpoint_and_any_other_is_not(server, tmp_path):
    settings = endpoint_settings(server, tmp_path)
    assert type(Farm("runpod://ep", settings=settings)) is RunpodFarm
    for url in ("inline://", "redis://127.0.0.1:1/0"):
        assert type(Farm(url, settings=settings)) is Farm


def test_the_setting_of_the_broker_may_name_an_endpoint(server, tmp_path):
    settings = endpoint_settings(server, tmp_path, broker_url="runpod://ep")
    assert type(Farm(settings=settings)) is RunpodFarm


def test_the_environment_may_name_an_endpoint(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FARM_HOME", str(tmp_path))
    monkeypatch.setenv("RUNPOD_API_KEY", "k")
    monkeypatch.setenv("FARM_BROKER_URL", "runpod://ep")
    assert Farm().context.settings.runpod_api_key == "k"
    # A copy of another farm remains one.
    assert type(copy(Farm("inline://"))) is Farm


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("runpod://", "endpoint: got ''"),
        ("runpod://a.b", "endpoint: got 'a.b'"),
        ("runpod://ep/status", "allowed: runpod://ENDPOINT_ID"),
        ("runpod://ep?execution_s=4", "execution_s: got '4'"),
        ("runpod://ep?ttl_s=soon", "ttl_s: got 'soon'"),
        ("runpod://ep?tll_s=60", "tll_s: there is no such field; did you mean ttl_s"),
    ],
)
def test_a_url_that_is_not_understood_is_refused(server, tmp_path, url, reason):
    with pytest.raises(InvalidInput) as caught:
        Farm(url, settings=endpoint_settings(server, tmp_path))
    assert reason in caught.value.message


def test_an_endpoint_needs_a_key(tmp_path):
    with pytest.raises(InvalidInput, match="RUNPOD_API_KEY: it is not set"):
        Farm("runpod://ep", settings=Settings(home=tmp_path))


# Submitting


def test_a_job_has_the_id_that_the_endpoint_gave(server, farm):
    accept_jobs(server, "job-1")
    job = farm.submit(FIELDS)
    assert (job.id, job.status().state, job.status().caller) == ("job-1", "queued", "anna")
    assert [request.json for request in posted(server)] == [{"input": FIELDS}]


def test_limits_in_the_url_become_the_policy_which_the_worker_sees_too(server, tmp_path):
    accept_jobs(server, "job-1")
    settings = endpoint_settings(server, tmp_path)
    Farm("runpod://ep?execution_s=600&ttl_s=3600", settings=settings).submit(FIELDS)
    policy = {"executionTimeout": 600_000, "ttl": 3_600_000}
    assert posted(server)[0].json == {"input": {**FIELDS, "policy": policy}, "policy": policy}


def test_limits_of_a_job_go_before_those_of_the_url(server, tmp_path):
    accept_jobs(server, "job-1")
    settings = endpoint_settings(server, tmp_path)
    farm = Farm("runpod://ep?execution_s=600", settings=settings)
    farm.submit(FIELDS, limits=TimeLimits(execution_s=60, ttl_s=90))
    assert posted(server)[0].json["policy"] == {"executionTimeout": 60_000, "ttl": 90_000}


def test_local_files_go_along(server, farm, portrait, voice):
    accept_jobs(server, "job-1")
    farm.submit(prompt="x", cond_video=str(portrait), cond_audio={"person1": str(voice)})
    sent = posted(server)[0].json["input"]
    head, _, body = sent["cond_video"].partition(",")
    assert (head, base64.b64decode(body)) == ("data:image/png;base64", portrait.read_bytes())
    assert base64.b64decode(sent["cond_audio"]["person1"].partition(",")[2]) == voice.read_bytes()


def test_an_invalid_request_is_refused_before_anything_is_sent(server, farm, tmp_path):
    for fields in (
        {**FIELDS, "sample_steps": 0},
        {**FIELDS, "cond_video": str(tmp_path / "missing.png")},
        {**FIELDS, "cond_video": str(EXAMPLES / "speech.wav")},
        {**FIELDS, "model": "miniature-flashtalk", "cond_video": str(EXAMPLES / "sitter.mp4")},
    ):
        with pytest.raises(InvalidInput):
            farm.submit(fields)
    assert server.requests == []


def test_a_job_for_own_gpus_alone_is_not_sent_to_runpod_but_to_a_gateway(server, farm, tmp_path):
    accept_jobs(server, "job-1")
    local = {**FIELDS, "placement": "local"}
    with pytest.raises(InvalidInput, match="placement: got 'local', and Runpod's workers"):
        Farm("runpod://ep", settings=Settings(home=tmp_path, runpod_api_key="k")).submit(local)
    assert farm.submit(local).id == "job-1"


def test_a_model_that_is_not_known_here_may_be_the_default_of_the_endpoint(server, farm):
    accept_jobs(server, "job-1")
    assert farm.submit({**FIELDS, "size": "infinitetalk-720"}).id == "job-1"


def test_files_of_this_machine_stay_here_unless_they_may_be_named(server, tmp_path, portrait):
    settings = endpoint_settings(server, tmp_path)
    for local_files in (False, tmp_path):
        farm = Farm("runpod://ep", settings=settings, local_files=local_files)
        with pytest.raises(InvalidInput, match="files of this machine may not be named"):
            farm.submit({**FIELDS, "cond_video": str(portrait)})
    assert server.requests == []


def large_voice(folder: Path, voice: Path) -> Path:
    """A recording that is too large for a body of 10 MB."""
    head = voice.read_bytes()
    path = folder / "long.wav"
    path.write_bytes(head + bytes(8_000_000 - len(head)))
    return path


def test_files_that_are_too_large_need_a_store(server, farm, tmp_path, voice):
    audio = {"person1": str(large_voice(tmp_path, voice))}
    with pytest.raises(InvalidInput, match=r"its size is 10\.\d MB; allowed: 10 MB") as caught:
        farm.submit({**FIELDS, "cond_audio": audio})
    assert "FARM_STORE_URL" in caught.value.message
    assert server.requests == []


def test_the_same_file_twice_is_counted_twice(server, farm, tmp_path, voice):
    path = tmp_path / "long.wav"
    path.write_bytes(voice.read_bytes() + bytes(4_000_000))
    audio = {"person1": str(path), "person2": str(path)}
    with pytest.raises(InvalidInput, match=r"its size is 1\d\.\d MB"):
        farm.submit({**FIELDS, "cond_audio": audio, "audio_type": "add"})


def with_s3(swift: Swift, server: ApiServer, home: Path) -> Farm:
    store = swift.settings().model_dump(include={"store_url", *S3_FIELDS})
    return farm_of(server, home, **store)


def test_files_that_are_too_large_go_through_the_store(server, swift, tmp_path, voice):
    accept_jobs(server, "job-1")
    farm = with_s3(swift, server, tmp_path / "home")
    path = large_voice(tmp_path, voice)
    farm.submit({**FIELDS, "cond_audio": {"person1": str(path)}})
    url = posted(server)[0].json["input"]["cond_audio"]["person1"]
    assert (url.startswith("http"), "Signature" in url) == (True, True)
    assert farm.context.store.get(keys.upload(path)) == path.read_bytes()


def test_an_upload_is_sent_as_a_signed_url(server, swift, tmp_path, portrait):
    accept_jobs(server, "job-1")
    farm = with_s3(swift, server, tmp_path / "home")
    request = farm.upload(JobRequest.parse({**FIELDS, "cond_video": str(portrait)}))
    assert request.cond_video.startswith("store://")
    farm.submit(request)
    assert "Signature" in posted(server)[0].json["input"]["cond_video"]


def test_a_key_of_a_store_that_the_endpoint_cannot_read_is_refused(server, farm):
    with pytest.raises(InvalidInput, match="which an endpoint cannot read"):
        farm.submit({**FIELDS, "cond_video": "store://uploads/abc.png"})
    assert server.requests == []


def test_what_may_have_been_accepted_is_not_submitted_again(server, farm):
    server.script(RUN, {}, 502)
    with pytest.raises(RunpodUnreachable, match="may have been accepted") as caught:
        farm.submit(FIELDS)
    assert (caught.value.retryable, len(posted(server))) == (False, 1)


def test_what_was_certainly_not_accepted_may_be_submitted_again(tmp_path):
    api = QueueApi(f"http://127.0.0.1:{free_port()}/v2/ep", "k", retry_s=0)
    endpoint = Endpoint(api, Submissions(Settings(home=tmp_path), api.url))
    with pytest.raises(RunpodUnreachable) as caught:
        endpoint.submit({}, JobRequest.parse(FIELDS), "anna")
    assert caught.value.retryable


def test_nothing_is_submitted_while_the_file_of_submissions_is_none(server, tmp_path):
    folder = tmp_path / "home" / "runpod"
    folder.mkdir(parents=True)
    (folder / "submissions.sqlite").write_text("something else, and long enough" * 100)
    with pytest.raises(InvalidInput, match=r"FARM_HOME: .* cannot be used"):
        farm_of(server, tmp_path / "home").submit(FIELDS)
    assert server.requests == []


def test_an_id_that_could_be_a_path_is_no_answer(server, farm):
    server.script(RUN, {"id": "../../etc", "status": "IN_QUEUE"})
    with pytest.raises(RunpodUnreachable, match="unexpected answer"):
        farm.submit(FIELDS)
    assert farm.jobs() == []


# Idempotency keys


def test_the_same_key_returns_the_first_job_also_in_another_process(server, farm, tmp_path):
    accept_jobs(server, "job-1", "job-2")
    keyed = {**FIELDS, "idempotency_key": "row 1"}
    another = farm_of(server, tmp_path / "home")
    assert [farm.submit(keyed).id, another.submit(keyed).id] == ["job-1", "job-1"]
    assert len(posted(server)) == 1


def test_a_key_of_another_request_is_refused(server, farm):
    accept_jobs(server, "job-1")
    farm.submit({**FIELDS, "idempotency_key": "row 1"})
    with pytest.raises(InvalidInput, match="idempotency_key: got 'row 1'; job job-1"):
        farm.submit({**FIELDS, "idempotency_key": "row 1", "prompt": "another"})


def test_a_key_belongs_to_its_caller(server, farm):
    accept_jobs(server, "job-1", "job-2")
    keyed = {**FIELDS, "idempotency_key": "row 1"}
    ids = [farm.as_caller(name).submit(keyed).id for name in ("anna", "bert")]
    assert ids == ["job-1", "job-2"]


# Finding jobs


def test_a_job_that_was_submitted_elsewhere_is_found_by_its_id(server, farm):
    say(server, "other", "COMPLETED", output=result(), delayTime=2000, executionTime=3000)
    status = farm.job("other").status()
    assert (status.state, status.caller) == ("success", "local")
    assert status.updated_at - status.created_at == pytest.approx(5)


@pytest.mark.parametrize("job_id", ["unknown", "", "..", "../../home", "a/b"])
def test_an_unknown_job_is_invalid_input(farm, job_id):
    with pytest.raises(InvalidInput, match="there is no such job"):
        farm.job(job_id)


def test_jobs_of_this_machine_are_listed_the_newest_first(server, farm, tmp_path):
    accept_jobs(server, "job-1", "job-2", "job-3")
    for _ in range(3):
        farm.submit(FIELDS)
    say(server, "job-2", "FAILED", error="out of luck")
    listed = farm_of(server, tmp_path / "home")
    assert [status.job_id for status in listed.jobs()] == ["job-3", "job-2", "job-1"]
    assert [status.job_id for status in listed.jobs(2)] == ["job-3", "job-2"]
    assert [status.job_id for status in listed.jobs(state="error")] == ["job-2"]
    assert listed.jobs(since=listed.now() + 60) == []


def test_a_caller_sees_its_own_jobs_alone(server, farm):
    accept_jobs(server, "job-1", "job-2")
    say(server, "foreign", "IN_QUEUE")
    anna, bert = (farm.as_caller(name) for name in ("anna", "bert"))
    anna.submit(FIELDS)
    bert.submit(FIELDS)
    assert [status.job_id for status in anna.jobs()] == ["job-1"]
    assert anna.job("job-1").id == "job-1"
    for job_id in ("job-2", "foreign"):
        with pytest.raises(InvalidInput, match="there is no such job"):
            anna.job(job_id)
    assert [status.job_id for status in farm.jobs(caller="bert")] == ["job-2"]


def test_jobs_of_another_endpoint_are_not_listed(server, farm, tmp_path):
    accept_jobs(server, "job-1")
    farm.submit(FIELDS)
    settings = endpoint_settings(server, tmp_path / "home")
    assert Farm("runpod://another", settings=settings).jobs() == []


@pytest.mark.parametrize("action", ["recover", "gc"])
def test_what_an_endpoint_cannot_do_is_refused(farm, action):
    with pytest.raises(InvalidInput, match=f"{action}: got runpod://ep, which keeps its jobs"):
        getattr(farm, action)()


def test_the_models_are_those_of_the_settings(server, tmp_path):
    farm = farm_of(server, tmp_path, presets="infinitetalk-480,miniature")
    assert farm.models() == ["infinitetalk-480", "miniature"]
