"""A running batch: its jobs, and the outcomes of its rows."""

from __future__ import annotations

import threading

import pytest
import redis

from farm.client import Farm
from farm.errors import FarmUnreachable, QuotaExceeded, UploadFailed
from tests.unit.batch.conftest import HEADER, LINE, read_lines, run


def test_every_row_gets_a_line_of_results(farm, worker, spec):
    outcomes = run(farm, spec)
    assert sorted(each.id for each in outcomes) == [f"row{number}" for number in range(9)]
    assert {each["status"] for each in read_lines(spec)} == {"success"}
    line = read_lines(spec)[0]
    assert line["url"] == f"https://example.org/{line['job_id']}.mp4"
    assert (line["seed"], line["gpu_s"], line["code"]) == ("42", "1.9", "")
    assert line["warnings"] == "it is cut off; it is silent"


def test_a_file_that_no_worker_would_take_is_an_invalid_row_and_not_uploaded(farm, spec):
    (spec.file.parent / "notes.txt").write_text("no face")
    spec.file.write_text(
        f"{HEADER},sample_steps\na,x,notes.txt,notes.txt,\nb,,http://,https://a/b.wav,0"
    )
    run(farm, spec)
    a, b = read_lines(spec)
    assert (a["status"], a["job_id"], farm.jobs()) == ("invalid", "", [])
    assert a["message"].startswith("cond_video: the file holds text, not an image or a video; ")
    assert " | cond_audio.person1: the file holds text, not audio; " in a["message"]
    named = [part.partition(":")[0] for part in b["message"].split(" | ")]
    assert named == ["cond_video", "sample_steps"]
    assert list(farm.context.store.keys("uploads/")) == []


def test_max_in_flight_limits_the_live_jobs(farm, worker, spec):
    run(farm, spec)
    assert 1 <= worker.most_live_jobs <= 3


def test_a_batch_waits_for_its_own_jobs_where_the_callers_quota_is_smaller(farm, worker, spec):
    settings = farm.context.settings.model_copy(update={"max_live_jobs": 2})
    outcomes = run(Farm(settings=settings), spec)
    assert [each.status for each in outcomes] == ["success"] * 9
    assert worker.most_live_jobs <= 2


def test_a_batch_ends_if_the_callers_quota_is_used_up_by_other_jobs(farm, spec):
    settings = farm.context.settings.model_copy(update={"max_live_jobs": 0})
    with pytest.raises(QuotaExceeded):
        run(Farm(settings=settings), spec)


def test_jobs_have_the_priority_of_the_batch(farm, worker, spec):
    (first, *_) = run(farm, spec)
    assert farm.context.registry.jobs.request(first.job_id).priority == "low"


def test_a_row_keeps_its_own_priority(farm, worker, spec):
    spec.file.write_text(f"{HEADER},priority\n{LINE.format('a')},high\n{LINE.format('b')},\n")
    job_ids = {outcome.id: outcome.job_id for outcome in run(farm, spec)}
    request = farm.context.registry.jobs.request
    assert request(job_ids["a"]).priority == "high"
    assert request(job_ids["b"]).priority == "low"


def test_an_invalid_row_is_reported_and_the_others_become_videos(farm, worker, spec):
    spec.file.write_text(
        "\n".join([f"{HEADER},sample_steps", LINE.format("a") + ",0", LINE.format("b") + ",4"])
    )
    run(farm, spec)
    invalid, good = read_lines(spec)
    assert (invalid["id"], invalid["status"], invalid["code"]) == (
        "a",
        "invalid",
        "E_INPUT_VALIDATION",
    )
    assert invalid["message"].startswith("sample_steps: got 0")
    assert (good["id"], good["status"]) == ("b", "success")


def test_an_error_names_the_columns_that_the_table_has(farm, spec):
    spec.file.write_text(
        "Image,Audio,Text,Voice\nmissing.png,https://e.org/a,,\nhttps://e.org/i,,hi,klingon\n"
    )

    first, second = (outcome.message for outcome in run(farm, spec))
    assert first.startswith("image: got 'missing.png'; there is no such file")
    assert second.startswith("voice: got 'klingon'; ")


def test_a_missing_file_makes_only_its_row_invalid(farm, worker, spec):
    spec.file.write_text(
        "\n".join([HEADER, "a,x,nothing.png,https://example.org/voice.wav", LINE.format("b")])
    )
    assert {each.id: each.status for each in run(farm, spec)} == {"a": "invalid", "b": "success"}


def test_a_line_of_results_names_the_line_of_its_row(farm, worker, spec):
    spec.file.write_text("\n".join([HEADER, LINE.format("a"), LINE.format("a"), "b,,x.png,"]))
    run(farm, spec)
    lines = {(each["id"], each["status"]): each["line"] for each in read_lines(spec)}
    assert lines == {("a", "success"): "2", ("a", "invalid"): "3", ("b", "invalid"): "4"}


@pytest.mark.parametrize(
    "error", [FarmUnreachable("no broker answers"), UploadFailed("the disk is full")], ids=repr
)
def test_calls_are_retried_while_the_broker_or_store_is_down(
    farm, worker, spec, monkeypatch, error
):
    submit = farm.submit
    calls = []

    def fragile(fields):
        calls.append(fields)
        if len(calls) % 2:
            raise error
        return submit(fields)

    monkeypatch.setattr(farm, "submit", fragile)
    assert len(run(farm, spec)) == 9


def test_a_broker_that_stays_down_ends_the_run(farm, spec, monkeypatch):
    monkeypatch.setattr("farm.batch.run.RETRY_S", 0.05)
    broken = Farm(
        settings=farm.context.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    )
    with pytest.raises(FarmUnreachable):
        run(broken, spec)


def test_a_broker_that_lost_the_jobs_ends_the_run_with_a_remedy(farm, spec, broker):
    def lose_all() -> None:
        while len(farm.context.registry.jobs.live()) < 3:
            pass
        with redis.Redis.from_url(broker) as client:
            client.flushall()

    thread = threading.Thread(target=lose_all)
    thread.start()
    with pytest.raises(FarmUnreachable, match=r"the broker has lost job .*; `farm recover`, then"):
        run(farm, spec)
    thread.join()
