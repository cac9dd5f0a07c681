"""A batch that is run again: what is made, found again, retried and told."""

from __future__ import annotations

import csv
import threading

import pytest

from farm.batch.results import open_results
from farm.batch.run import Batch, load_batch, save_batch
from farm.errors import InvalidInput
from tests.conftest import EXAMPLES
from tests.unit.batch.conftest import HEADER, LINE, Worker, read_lines, run


def test_running_a_finished_batch_again_does_nothing(farm, worker, spec):
    run(farm, spec)
    jobs = len(farm.jobs(99))
    before = read_lines(spec)
    assert run(farm, spec) == []
    assert (len(farm.jobs(99)), read_lines(spec)) == (jobs, before)


def test_a_row_that_was_changed_is_told_and_made_again_on_request(farm, worker, spec, portrait):
    face = spec.file.with_name("face.png")
    face.write_bytes(portrait.read_bytes())
    table = [HEADER, LINE.format("a"), "b,x,face.png,https://example.org/voice.wav"]
    spec.file.write_text("\n".join(table))
    run(farm, spec)
    before = {each["id"]: each["job_id"] for each in read_lines(spec)}
    spec.file.write_text("\n".join(table).replace("a woman", "a man"))
    (changed,) = run(farm, spec)
    assert (changed.id, changed.status) == ("a", "changed")
    face.write_bytes((EXAMPLES / "couple.png").read_bytes())
    assert [each.id for each in run(farm, spec)] == ["a", "b"]
    made = run(farm, spec, remake=True)
    assert {each.id: each.status for each in made} == {"a": "success", "b": "success"}
    assert run(farm, spec) == []
    after = {each["id"]: each["job_id"] for each in read_lines(spec)}
    assert len(read_lines(spec)) == 2
    assert not before.items() & after.items()


def test_results_of_an_earlier_version_have_no_digests(farm, worker, spec):
    run(farm, spec)
    with spec.output.open(newline="") as file:
        lines = [[*line[:9], line[-1]] for line in csv.reader(file)]
    with spec.output.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    assert run(farm, spec) == []
    assert read_lines(spec)[0]["digest"] == ""


def test_an_interrupted_run_is_resumed(farm, spec):
    # Given a run that is abandoned while its first jobs are in flight, which then end
    with open_results(spec.output, batch=spec.id) as results:
        batch = Batch(farm, spec, results)
        thread = threading.Thread(target=lambda: next(batch.run()))
        thread.start()
        while len(farm.context.registry.jobs.live()) < 3:
            pass
        first = set(farm.context.registry.jobs.live())
        worker = Worker(farm)
        worker.thread.start()
        thread.join()
    # When the same file is run again
    outcomes = run(farm, spec)
    worker.stopped.set()
    worker.thread.join()
    # Then no row has two jobs, and each has its line
    assert first <= {each["job_id"] for each in read_lines(spec)}
    assert (len(farm.jobs(99)), len(read_lines(spec))) == (9, 9)
    assert len(outcomes) < 9


def test_batches_with_the_same_ids_can_share_a_results_file(farm, worker, spec, tmp_path):
    run(farm, spec)
    worker.fails = lambda job_id: True
    other = spec.model_copy(update={"file": tmp_path / "other.csv"})
    other.file.write_text("\n".join([HEADER, LINE.format("row0")]))
    assert [outcome.status for outcome in run(farm, other)] == ["error"]
    assert run(farm, spec) == []
    lines = [(each["id"], each["status"], each["batch"]) for each in read_lines(spec)]
    assert sorted(lines[:9]) == [(f"row{number}", "success", spec.id) for number in range(9)]
    assert lines[9:] == [("row0", "error", other.id)]


def test_an_error_is_reported_again_by_the_next_run(farm, worker, spec):
    spec.file.write_text("\n".join([HEADER, LINE.format("a"), LINE.format("a")]))
    run(farm, spec)
    (again,) = run(farm, spec)
    assert (again.id, again.status) == ("a", "invalid")


def test_lost_results_are_restored_from_the_jobs(farm, worker, spec):
    run(farm, spec)
    before = {each["id"]: each["job_id"] for each in read_lines(spec)}
    spec.output.unlink()
    run(farm, spec)
    assert {each["id"]: each["job_id"] for each in read_lines(spec)} == before


def test_a_failed_row_is_retried_by_the_next_run_but_not_by_the_same(farm, worker, spec):
    worker.fails = lambda job_id: farm.context.registry.jobs.request(job_id).prompt == "unlucky"
    spec.file.write_text(
        "\n".join([HEADER, LINE.format("a").replace("a woman talks", "unlucky"), LINE.format("b")])
    )
    assert {each.id: each.status for each in run(farm, spec)} == {"a": "error", "b": "success"}
    assert {each["id"]: each["code"] for each in read_lines(spec)} == {
        "a": "E_GENERATION_RUNTIME",
        "b": "",
    }
    worker.fails = lambda job_id: False
    (again,) = run(farm, spec)
    assert (again.id, again.status) == ("a", "success")
    assert [each["status"] for each in read_lines(spec)] == ["success", "success"]
    assert len(farm.jobs(99)) == 3


def test_a_row_can_set_its_own_idempotency_key(farm, worker, spec):
    spec.file.write_text("\n".join([f"{HEADER},idempotency_key", LINE.format("a") + ",mine"]))
    (outcome,) = run(farm, spec)
    (own,) = farm.jobs()
    assert (own.job_id, farm.context.registry.jobs.request(own.job_id).idempotency_key) == (
        outcome.job_id,
        "mine",
    )


def test_a_row_that_was_corrected_is_another_request(farm, worker, spec):
    worker.fails = lambda job_id: farm.context.registry.jobs.request(job_id).prompt == "unlucky"
    spec.file.write_text("\n".join([HEADER, LINE.format("a").replace("a woman talks", "unlucky")]))
    run(farm, spec)
    spec.file.write_text("\n".join([HEADER, LINE.format("a")]))
    assert [each.status for each in run(farm, spec)] == ["success"]


def test_a_file_that_was_corrected_is_another_request(farm, worker, spec, portrait):
    # Given a row whose job failed, and whose image is then replaced
    face = spec.file.with_name("face.png")
    face.write_bytes(b"no image")
    spec.file.write_text("\n".join([HEADER, "a,x,face.png,https://example.org/voice.wav"]))
    worker.fails = lambda job_id: True
    run(farm, spec)
    face.write_bytes(portrait.read_bytes())
    worker.fails = lambda job_id: False
    assert [each.status for each in run(farm, spec)] == ["success"]


def test_another_priority_finds_the_jobs_of_an_earlier_run(farm, worker, spec):
    run(farm, spec)
    before = {each["id"]: each["job_id"] for each in read_lines(spec)}
    spec.output.unlink()
    run(farm, spec.model_copy(update={"priority": "high"}))
    assert {each["id"]: each["job_id"] for each in read_lines(spec)} == before


def test_a_batch_is_identified_by_its_file(farm, spec):
    save_batch(farm, spec)
    assert load_batch(farm, spec.id) == spec
    assert spec.model_copy(update={"max_in_flight": 9}).id == spec.id
    with pytest.raises(InvalidInput, match="there is no such batch"):
        load_batch(farm, "../secret")
