"""Callers of one farm: whose a job is, who sees it, and what each may have."""

from __future__ import annotations

import getpass
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from farm.caller import LOCAL, check_caller, local_user
from farm.client import Farm
from farm.engine import journal
from farm.errors import InvalidInput, QuotaExceeded
from farm.registry.accounts import Quota
from farm.settings import Settings
from farm.store import keys
from tests.support.jobs import FIELDS
from tests.support.threads import race

KEYED = {**FIELDS, "idempotency_key": "order 66"}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """A farm without workers: jobs stay queued."""
    return open_farm(broker, tmp_path)


def open_farm(broker: str, tmp_path: Path, **settings: Any) -> Farm:
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker, **settings))


# Whose job it is


def test_a_job_is_the_local_users_or_that_of_the_caller_who_is_set(farm, broker, tmp_path):
    assert farm.submit(FIELDS).status().caller == getpass.getuser()
    robot = open_farm(broker, tmp_path, caller="robot")
    assert robot.submit(FIELDS).status().caller == "robot"
    job = farm.as_caller("anna@example.org").submit(FIELDS)
    assert job.status().caller == "anna@example.org"
    assert journal.read_request(farm.context.store, job.id).caller == "anna@example.org"


def test_a_request_cannot_name_its_caller(farm):
    with pytest.raises(InvalidInput, match="caller: there is no such field"):
        farm.as_caller("anna").submit({**FIELDS, "caller": "bob"})


@pytest.mark.parametrize(
    "name", ["", "a" * 65, "an na", "anna\n", "an:na", "../anna", "-anna", "änna", "\x1b[31m"]
)
def test_a_name_that_is_too_long_or_has_other_characters_is_refused(farm, name):
    with pytest.raises(InvalidInput, match=r"^caller: got .*; allowed: 1 to 64 of the characters"):
        farm.as_caller(name)


def test_a_setting_with_such_a_name_is_refused():
    with pytest.raises(InvalidInput, match=r"^FARM_CALLER: got 'an na'"):
        Settings.load({"FARM_CALLER": "an na"})


@pytest.mark.parametrize(
    ("user", "caller"),
    [("anna", "anna"), ("CORP\\anna", "CORP_anna"), ("Jürgen M", "J_rgen_M"), ("-x", "_x")],
)
def test_the_name_of_the_local_user_becomes_that_of_a_caller(monkeypatch, user, caller):
    monkeypatch.setattr("getpass.getuser", lambda: user)
    assert local_user() == check_caller(caller)


def test_a_user_without_a_name_is_the_local_caller(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert local_user() == LOCAL


# Who sees it


def test_the_idempotency_key_of_another_caller_leads_to_another_job(farm):
    anna = farm.as_caller("anna")
    bob = farm.as_caller("bob")
    first = anna.submit(KEYED)
    second = bob.submit({**KEYED, "prompt": "another"})
    assert first.id != second.id
    assert anna.submit(KEYED).id == first.id
    assert bob.jobs()[0].job_id == second.id
    with pytest.raises(InvalidInput, match=f"job {second.id} was submitted with it and another"):
        bob.submit(KEYED)


def test_a_caller_sees_only_jobs_of_this_name(farm):
    anna = farm.as_caller("anna")
    bob = farm.as_caller("bob")
    first = anna.submit(FIELDS)
    second = bob.submit(FIELDS)
    assert [status.job_id for status in anna.jobs()] == [first.id]
    assert [status.job_id for status in bob.jobs(caller="anna")] == [second.id]
    assert anna.job(first.id).status().caller == "anna"


def test_the_job_of_another_caller_is_an_unknown_job(farm):
    anna = farm.as_caller("anna")
    job = farm.as_caller("bob").submit(FIELDS)
    with pytest.raises(InvalidInput) as foreign:
        anna.job(job.id)
    farm.cancel([job.id])
    farm.context.registry.entries.forget(job.id, [])
    with pytest.raises(InvalidInput) as unknown:
        anna.job(job.id)
    assert foreign.value.message == unknown.value.message


def test_a_caller_cancels_no_job_of_another(farm):
    anna = farm.as_caller("anna")
    own = anna.submit(FIELDS)
    other = farm.as_caller("bob").submit(FIELDS)
    with pytest.raises(InvalidInput, match="there is no such job"):
        anna.cancel([own.id, other.id])
    assert [job.status().state for job in (own, other)] == ["queued", "queued"]


def test_a_caller_deletes_no_job_of_another(farm):
    anna = farm.as_caller("anna")
    own = anna.submit(FIELDS)
    other = farm.as_caller("bob").submit(FIELDS)
    with pytest.raises(InvalidInput, match="there is no such job"):
        anna.delete([own.id, other.id])
    assert [job.status().state for job in (own, other)] == ["queued", "queued"]
    anna.delete([own.id])
    assert [status.job_id for status in farm.jobs()] == [other.id]


def test_the_operator_sees_all_jobs_and_filters_them_by_caller(farm):
    jobs = {name: farm.as_caller(name).submit(FIELDS) for name in ("anna", "bob")}
    assert {status.caller for status in farm.jobs()} == {"anna", "bob"}
    assert [status.job_id for status in farm.jobs(caller="bob")] == [jobs["bob"].id]
    assert farm.cancel([job.id for job in jobs.values()]) == dict.fromkeys(
        (job.id for job in jobs.values()), True
    )


@pytest.mark.parametrize("action", ["recover", "gc"])
def test_only_the_operator_recovers_and_collects(farm, action):
    with pytest.raises(InvalidInput, match=f"{action}: got caller 'anna'; allowed: the operator"):
        next(getattr(farm.as_caller("anna"), action)())


# What it may have


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ({"max_live_jobs": 0}, "0 jobs have not ended; allowed: 0"),
        ({"max_gpu_s_per_day": 1}, "16,725 for this one; allowed: 1 a day"),
        ({"max_stored_bytes": 100}, "bytes with the uploads of this job; allowed: 100"),
    ],
    ids=str,
)
def test_a_job_beyond_a_quota_is_refused_before_anything_is_stored(
    broker, tmp_path, portrait, quota, message
):
    farm = open_farm(broker, tmp_path, **quota)
    with pytest.raises(QuotaExceeded, match=message):
        farm.submit({**KEYED, "cond_video": str(portrait)})
    assert (farm.jobs(), list(farm.context.store.keys(""))) == ([], [keys.FARM])
    assert open_farm(broker, tmp_path).submit(KEYED).status().state == "queued"


def test_of_submissions_at_once_the_last_slot_takes_one_and_the_others_leave_nothing(
    broker, tmp_path, monkeypatch
):
    farm = open_farm(broker, tmp_path, max_live_jobs=1)
    monkeypatch.setattr(farm.context.registry.entries, "check_quota", lambda *_: None)

    def submit() -> bool:
        try:
            farm.submit(FIELDS)
        except QuotaExceeded:
            return False
        return True

    assert sum(race(submit)) == 1
    (job,) = farm.jobs()
    assert list(farm.context.store.keys("")) == [keys.FARM, keys.request(job.job_id)]


def test_of_submissions_at_once_with_one_key_one_is_a_job_and_the_others_leave_nothing(farm):
    job_ids = {job.id for job in race(lambda: farm.submit(KEYED))}
    requests = [keys.request(job_id) for job_id in job_ids]
    assert list(farm.context.store.keys("")) == [keys.FARM, *requests]
    assert len(job_ids) == 1


def test_audio_of_unknown_length_counts_as_the_longest_that_is_allowed(broker, tmp_path, voice):
    farm = open_farm(broker, tmp_path, max_gpu_s_per_day=2000)
    long = {**FIELDS, "sample_steps": 60, "max_frame_num": 1000}
    with pytest.raises(QuotaExceeded, match=r"2,516 for this one"):
        farm.submit(long)
    farm.submit({**long, "cond_audio": {"person1": str(voice)}})


@pytest.mark.parametrize(
    ("allowed", "caller", "accepted"),
    [(None, "bob", True), (("anna",), "anna", True), (("anna",), "bob", False), ((), "bob", False)],
)
def test_high_priority_is_for_the_callers_who_may_ask_for_it(
    broker, tmp_path, allowed, caller, accepted
):
    farm = open_farm(broker, tmp_path, high_priority_callers=allowed).as_caller(caller)
    farm.submit({**FIELDS, "priority": "normal"})
    if accepted:
        farm.submit({**FIELDS, "priority": "high"})
        return
    with pytest.raises(InvalidInput, match="priority: got 'high' of caller bob; allowed: normal"):
        farm.submit({**FIELDS, "priority": "high"})


# What is stored anew


@pytest.mark.parametrize(("age_days", "anew"), [(3, False), (4, True)])
def test_an_upload_of_which_half_the_time_is_over_is_stored_anew(farm, portrait, age_days, anew):
    farm.submit({**FIELDS, "cond_video": str(portrait)})
    store = farm.context.store
    key = keys.upload(portrait)
    path = Path(store.url(key).removeprefix("file://"))
    age = farm.now() - age_days * 86_400
    os.utime(path, (age, age))
    farm.submit({**FIELDS, "cond_video": str(portrait)})
    assert (store.written_at(key)[key] > age + 1) == anew


# Strangers, who name neither private addresses nor others' uploads


@pytest.fixture(params=[False, Path("uploads")])
def gateway(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> Farm:
    """A farm for the requests of strangers, with and without a folder for their files."""
    settings = Settings(home=tmp_path / "home", broker_url=broker)
    return Farm(settings=settings, local_files=request.param and tmp_path / request.param)


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1/face.png", "http://2130706433/a", "HTTPS://LOCALHOST/a.png"]
)
def test_a_stranger_names_no_private_address(gateway, source):
    with pytest.raises(InvalidInput, match=r"^cond_video: .* is not on the open internet"):
        gateway.as_caller("anna").submit({**FIELDS, "cond_video": source})


def test_a_stranger_names_its_own_uploads_only(gateway, portrait):
    uploaded = "data:image/png;base64," + b64encode(portrait.read_bytes()).decode()
    request = {**FIELDS, "cond_video": uploaded}
    anna = gateway.as_caller("anna")
    job = anna.submit(request)
    key = gateway.context.registry.jobs.request(job.id).cond_video

    assert anna.submit({**FIELDS, "cond_video": key}).id != job.id
    with pytest.raises(InvalidInput, match=r"allowed: uploads of your own jobs"):
        gateway.as_caller("bob").submit({**FIELDS, "cond_video": key})


def test_a_stranger_names_no_other_key_of_the_store(gateway):
    with pytest.raises(InvalidInput, match=r"^cond_video: .*; it is no upload"):
        gateway.as_caller("anna").submit(
            {**FIELDS, "cond_video": "store://jobs/other/request.json"}
        )


def test_a_callers_own_quota_takes_the_place_of_the_settings(farm):
    limited = farm.as_caller("anna", Quota(live_jobs=1))
    limited.submit(FIELDS)

    with pytest.raises(QuotaExceeded, match="allowed: 1 "):
        limited.submit(FIELDS)
    farm.as_caller("bob").submit(FIELDS)
    assert farm.as_caller("bob").submit(FIELDS)
