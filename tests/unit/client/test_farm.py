"""The Python client: submitting jobs, finding them, cancelling them."""

from __future__ import annotations

import base64
import re
import sys
import tracemalloc
from unittest.mock import patch

import pytest

from farm.client import Farm
from farm.engine import journal
from farm.errors import Cancelled, FarmError, FarmUnreachable, InvalidInput
from farm.job import JobRequest, TimeLimits
from farm.route import DOWNLOAD, Step
from farm.settings import Settings
from tests.conftest import EXAMPLES
from tests.support.jobs import FIELDS, resolved
from tests.support.submissions import queued, submitted

# Submitting


def test_a_submitted_job_is_queued_once(farm, broker):
    job = farm.submit(FIELDS)
    assert (job.status().state, queued(broker), queued(broker, "gpu")) == ("queued", 1, 0)


def test_a_new_job_is_entered_with_its_dispatch_in_one_write(farm):
    registry = farm.context.registry
    farm.submit(FIELDS)  # the first one compares store and broker
    with patch.object(registry.backend, "swap", wraps=registry.backend.swap) as swap:
        job = farm.submit(FIELDS)
    assert (swap.call_count, registry.steps.record(job.id, DOWNLOAD.id).dispatches) == (1, 1)


def test_fields_can_be_given_by_name_or_as_a_request(farm):
    by_name = farm.submit(**FIELDS)
    as_request = farm.submit(JobRequest.parse(FIELDS))
    requests = [farm.context.registry.jobs.request(job.id) for job in (by_name, as_request)]
    assert requests == [resolved(FIELDS)] * 2


def test_fields_override_those_of_a_request(farm):
    job = farm.submit(JobRequest.parse(FIELDS), prompt="another")
    assert farm.context.registry.jobs.request(job.id).prompt == "another"


def test_a_rejected_request_leaves_no_trace(farm, broker, tmp_path):
    with pytest.raises(InvalidInput, match="sample_steps: got 0"):
        farm.submit({**FIELDS, "sample_steps": 0})
    assert (farm.jobs(), queued(broker), list(farm.context.store.keys(""))) == ([], 0, [])


def test_the_store_of_another_farm_is_refused_before_anything_is_written(farm, broker, tmp_path):
    farm.submit(FIELDS)
    other = Farm(broker, settings=Settings(home=tmp_path / "other"))
    for access in (
        lambda: other.submit(FIELDS),
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
        farm.submit(FIELDS)
    assert checked == [farm.context]


def test_the_accepted_request_is_stored(farm):
    job = farm.submit(FIELDS)
    status = job.status()
    submitted = journal.read_request(farm.context.store, job.id)
    assert submitted.request == farm.context.registry.jobs.request(job.id)
    assert status.created_at - 5 < submitted.submitted_at <= status.created_at
    assert submitted.caller == status.caller == farm.caller


def test_a_given_seed_is_kept(farm):
    assert [submitted(farm, base_seed=seed).base_seed for seed in (0, 42, 2**63 - 1)] == [
        0,
        42,
        2**63 - 1,
    ]


def test_a_random_seed_is_drawn_once_per_job(farm):
    jobs = [farm.submit({**FIELDS, "base_seed": -1}) for _ in range(4)]
    drawn = [farm.context.registry.jobs.request(job.id).base_seed for job in jobs]
    assert min(drawn) >= 0
    assert len(set(drawn)) == 4
    assert [farm.context.registry.jobs.request(job.id).base_seed for job in jobs] == drawn


def test_the_same_idempotency_key_gives_the_same_job_and_one_message(farm, broker):
    jobs = [farm.submit({**FIELDS, "idempotency_key": "order 66"}) for _ in range(3)]
    assert len({job.id for job in jobs}) == len(farm.jobs()) == queued(broker) == 1


def test_another_idempotency_key_gives_another_job(farm):
    assert (
        farm.submit({**FIELDS, "idempotency_key": "a"}).id
        != farm.submit({**FIELDS, "idempotency_key": "b"}).id
    )


class FailingTransport:
    """A transport whose broker is down."""

    def dispatch(self, job_id: str, step: Step) -> None:
        raise FarmUnreachable("the broker did not accept it")


def test_a_job_whose_dispatch_failed_is_dispatched_when_it_is_submitted_again(farm, broker):
    transport = farm.transport
    farm.transport = FailingTransport()
    with pytest.raises(FarmUnreachable):
        farm.submit({**FIELDS, "idempotency_key": "order 66"})
    farm.transport = transport
    farm.submit({**FIELDS, "idempotency_key": "order 66"})
    assert (len(farm.jobs()), queued(broker)) == (1, 1)


def test_another_request_under_the_same_idempotency_key_is_refused(farm, broker):
    job = farm.submit({**FIELDS, "idempotency_key": "order 66"})
    with pytest.raises(
        InvalidInput,
        match=f"^idempotency_key: got 'order 66'; job {job.id} was .* with it and another prompt;",
    ):
        farm.submit({**FIELDS, "idempotency_key": "order 66", "prompt": "another"})
    assert (len(farm.jobs()), queued(broker)) == (1, 1)
    assert farm.context.registry.jobs.request(job.id).prompt == FIELDS["prompt"]


def test_the_same_bytes_in_another_form_are_the_same_request(farm, portrait, tmp_path):
    (tmp_path / "copy.png").write_bytes(portrait.read_bytes())
    encoded = base64.b64encode(portrait.read_bytes()).decode()
    sources = (str(portrait), str(tmp_path / "copy.png"), f"data:image/png;base64,{encoded}")
    keyed = {**FIELDS, "idempotency_key": "order 66"}
    assert len({farm.submit({**keyed, "cond_video": source}).id for source in sources}) == 1


def test_a_random_seed_is_drawn_once_per_idempotency_key(farm):
    jobs = [
        farm.submit({**FIELDS, "base_seed": -1, "idempotency_key": key}) for key in ("a", "a", "b")
    ]
    assert jobs[0].id == jobs[1].id
    seeds = [farm.context.registry.jobs.request(job.id).base_seed for job in jobs]
    assert seeds[0] != seeds[2]


def test_a_job_id_cannot_be_guessed(farm):
    assert re.fullmatch("[0-9a-f]{32}", farm.submit(FIELDS).id)


def test_two_jobs_have_two_ids(farm):
    assert farm.submit(FIELDS).id != farm.submit(FIELDS).id


def test_a_farm_whose_broker_is_down_is_unreachable(tmp_path):
    farm = Farm("redis://127.0.0.1:1/0", settings=Settings(home=tmp_path))
    with pytest.raises(FarmUnreachable, match=r"no broker answers at 127\.0\.0\.1:1"):
        farm.submit(FIELDS)


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


def test_a_request_that_its_models_defaults_make_too_long_is_refused(broker, tmp_path):
    size = len(JobRequest.parse(FIELDS).model_dump_json())
    farm = Farm(settings=Settings(home=tmp_path, broker_url=broker, max_request_bytes=size))
    with pytest.raises(InvalidInput, match=r"^request: got .* \(FARM_MAX_REQUEST_BYTES"):
        farm.submit(FIELDS)


def test_a_request_beyond_the_limit_is_refused_without_counting_its_files(
    broker, tmp_path, portrait
):
    settings = Settings(home=tmp_path, broker_url=broker, max_request_bytes=3000)
    farm = Farm(settings=settings)
    encoded = base64.b64encode(portrait.read_bytes()).decode()
    assert len(encoded) > 5000
    farm.submit({**FIELDS, "cond_video": f"data:image/png;base64,{encoded}"})
    with pytest.raises(
        InvalidInput, match=r"^request: got 3,\d\d\d bytes; allowed: 3,000 \(FARM_MAX_REQUEST_BYTES"
    ):
        farm.submit({**FIELDS, "prompt": "a" * 3000})


# Finding and cancelling


def test_an_unknown_job_is_rejected(farm):
    with pytest.raises(InvalidInput, match="job_id: got 'unknown'"):
        farm.job("unknown")


def test_a_job_is_found_by_its_id(farm):
    job = farm.submit(FIELDS)
    assert farm.job(job.id).status() == job.status()


def test_jobs_are_listed_newest_first(farm):
    ids = [farm.submit(FIELDS).id for _ in range(3)]
    assert [status.job_id for status in farm.jobs()] == ids[::-1]
    assert [status.job_id for status in farm.jobs(limit=1)] == ids[2:]


def test_jobs_are_filtered_by_state(farm):
    jobs = [farm.submit(FIELDS) for _ in range(3)]
    jobs[1].cancel()
    assert [status.job_id for status in farm.jobs(state="cancelled")] == [jobs[1].id]
    assert [status.job_id for status in farm.jobs(1, state="queued")] == [jobs[2].id]


def test_a_state_that_does_not_exist_is_refused(farm):
    with pytest.raises(InvalidInput) as caught:
        farm.jobs(state="sucess")
    assert caught.value.message == (
        "state: got 'sucess'; allowed: queued, running, success, error, cancelled; "
        "did you mean success?"
    )


def test_jobs_are_filtered_by_submission_time(farm):
    first = farm.submit(FIELDS)
    second = farm.submit(FIELDS)
    moment = second.status().created_at
    assert first.status().created_at < moment
    assert [status.job_id for status in farm.jobs(since=moment)] == [second.id]
    assert farm.jobs(since=second.status().created) == farm.jobs(since=moment)
    assert farm.jobs(since=moment + 60) == []


def test_a_batch_is_submitted_by_the_call(farm, broker):
    jobs = farm.submit_batch([FIELDS, JobRequest.parse(FIELDS)])
    assert queued(broker) == 2
    assert [job.id for job in jobs] == [status.job_id for status in farm.jobs()][::-1]


def test_of_a_batch_with_mistakes_nothing_is_submitted_and_all_are_named(farm, broker):
    with pytest.raises(InvalidInput) as caught:
        farm.submit_batch([FIELDS, {"prompt": "no face"}, {**FIELDS, "sample_steps": 0}])
    assert [line.partition(";")[0] for line in caught.value.message.splitlines()] == [
        "batch.1.cond_video: it is missing",
        "batch.2.sample_steps: got 0",
    ]
    assert (farm.jobs(), queued(broker), list(farm.context.store.keys(""))) == ([], 0, [])


def test_a_batch_with_a_file_that_is_missing_submits_nothing(farm, broker, tmp_path):
    missing = {**FIELDS, "cond_video": tmp_path / "missing.png"}
    with pytest.raises(InvalidInput, match=r"^batch\.1\.cond_video: got .*no such file"):
        farm.submit_batch([FIELDS, missing])
    assert (farm.jobs(), queued(broker)) == ([], 0)


def test_the_files_of_a_batch_are_not_held(farm, tmp_path):
    """Only content that was given as bytes is part of a request."""
    face = tmp_path / "face.png"
    face.write_bytes((EXAMPLES / "portrait.png").read_bytes() + bytes(20_000_000))
    tracemalloc.start()
    farm.submit_batch([{**FIELDS, "cond_video": face, "prompt": f"{n}"} for n in range(5)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_the_contracts_batch_is_submitted_item_by_item(farm):
    items = [{"id": "a", **FIELDS}, {**FIELDS, "prompt": "another"}]
    jobs = farm.submit_batch({"batch": items})
    assert [job.request().prompt for job in jobs] == [FIELDS["prompt"], "another"]
    with pytest.raises(InvalidInput, match=r"^batch\.0\.request: got string; allowed: an object"):
        farm.submit_batch({"batch": ["x", *items]})


def test_many_jobs_are_cancelled_at_once(farm):
    jobs = [farm.submit(FIELDS) for _ in range(3)]
    jobs[1].cancel()
    ids = [job.id for job in jobs]
    assert farm.cancel([*ids, ids[0]], by="the operator") == dict(
        zip(ids, [True, False, True], strict=True)
    )
    assert [job.status().state for job in jobs] == ["cancelled"] * 3
    with pytest.raises(Cancelled, match="cancelled by the operator"):
        jobs[2].result(timeout_s=1)


def test_no_job_is_cancelled_if_one_is_unknown(farm):
    job = farm.submit(FIELDS)
    with pytest.raises(InvalidInput, match="job_id: got 'unknown'"):
        farm.cancel([job.id, "unknown"])
    assert job.status().state == "queued"


# Inline


def test_an_inline_job_can_fail_without_a_broker(tmp_path):
    farm = Farm("inline://", settings=Settings(home=tmp_path))
    missing = "store://uploads/" + "0" * 64
    job = farm.submit({**FIELDS, "cond_video": missing, "cond_audio": {"person1": missing}})
    with pytest.raises(FarmError, match="the store holds no uploads/0000"):
        job.result(timeout_s=20)
    assert [event.stage for event in job.events()][-1] == "error"


def test_an_inline_job_without_the_packages_of_a_worker_says_what_to_install(tmp_path):
    farm = Farm("inline://", settings=Settings(home=tmp_path))
    sentence = r"^inline: torch is not installed; pip install '.\[worker\]'"
    with patch.dict(sys.modules, {"torch": None}), pytest.raises(InvalidInput, match=sentence):
        farm.submit(FIELDS)


def test_an_inline_job_has_no_time_limits_because_no_reaper_keeps_them(tmp_path):
    farm = Farm("inline://", settings=Settings(home=tmp_path))
    with pytest.raises(InvalidInput, match=r"^limits: not supported for inline jobs"):
        farm.submit(FIELDS, limits=TimeLimits(ttl_s=60))


def test_a_farm_at_a_url_has_its_registry_there_whatever_the_environment_says(broker, tmp_path):
    settings = Settings(home=tmp_path, broker_url="amqp://a", registry_url="redis://127.0.0.1:1")
    assert Farm(broker, settings=settings).jobs() == []


def test_a_farm_at_a_rabbitmq_keeps_the_registry_of_the_settings(broker, tmp_path):
    settings = Settings(home=tmp_path, registry_url=broker)
    assert Farm("amqp://127.0.0.1:1", settings=settings).jobs() == []
