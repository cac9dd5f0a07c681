"""A batch on its way through a farm: what is submitted, what is written down, and what another run finds."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.batch.results import COLUMNS, Outcome, open_results
from farm.batch.run import Batch, Order, remember, remembered
from farm.client import Farm
from farm.errors import FarmUnreachable, GenerationFailed, InvalidInput, UploadFailed
from farm.job import Result
from farm.settings import Settings

HEADER = "id,prompt,cond_video,cond_audio.person1"
LINE = "{},a woman talks,https://example.org/face.png,https://example.org/voice.wav"


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker))


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.batch.run.LOOK_EVERY_S", 0.01)


class Worker:
    """Ends every job that it finds, after it has noted how many there were at once."""

    def __init__(self, farm: Farm) -> None:
        self.registry = farm.context.registry
        self.most = 0
        self.fails: Callable[[str], bool] = lambda job_id: False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self.stopped.wait(0.02):
            live = self.registry.jobs.live()
            self.most = max(self.most, len(live))
            for job_id in live:
                if self.fails(job_id):
                    self.registry.jobs.fail(job_id, GenerationFailed("no luck"), at_stage="chunk_0_pre")
                else:
                    self.registry.jobs.end(job_id, "success", Result.model_validate(made(job_id)))
                self.registry.jobs.close(job_id)


def made(job_id: str) -> dict[str, Any]:
    video = {"url": f"https://example.org/{job_id}.mp4", "bytes": 9, "thumbnail_url": "https://example.org/t.jpg"}
    timings = {"sampling_ms": 1500, "decode_ms": 400, "mux_ms": 90_000}
    return {"job_id": job_id, "status": "success", "video": video, "params": {"base_seed": 42}, "timings": timings}


@pytest.fixture
def worker(farm: Farm) -> Iterator[Worker]:
    worker = Worker(farm)
    worker.thread.start()
    yield worker
    worker.stopped.set()
    worker.thread.join()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    lines = [HEADER, *(LINE.format(f"row{number}") for number in range(9))]
    (tmp_path / "jobs.csv").write_text("\n".join(lines))
    return Order(file=tmp_path / "jobs.csv", out=tmp_path / "results.csv", in_flight=3)


def run(farm: Farm, order: Order) -> list[Outcome]:
    with open_results(order.out, batch=order.id) as results:
        return list(Batch(farm, order, results).run())


def written(order: Order) -> list[dict[str, str]]:
    with order.out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_gets_its_line(farm, worker, order):
    outcomes = run(farm, order)
    assert sorted(each.id for each in outcomes) == [f"row{number}" for number in range(9)]
    assert {each["status"] for each in written(order)} == {"success"}
    line = written(order)[0]
    assert line["url"] == f"https://example.org/{line['job_id']}.mp4"
    assert (line["seed"], line["gpu_s"], line["code"]) == ("42", "1.9", "")


def test_no_more_jobs_than_allowed_are_in_flight(farm, worker, order):
    run(farm, order)
    assert 1 <= worker.most <= 3


def test_all_jobs_have_the_batchs_priority(farm, worker, order):
    (first, *_) = run(farm, order)
    assert farm.context.registry.jobs.request(first.job_id).priority == "low"


def test_a_bad_row_is_written_down_and_the_others_are_made(farm, worker, order):
    order.file.write_text("\n".join([f"{HEADER},sample_steps", LINE.format("a") + ",0", LINE.format("b") + ",4"]))
    run(farm, order)
    invalid, good = written(order)
    assert (invalid["id"], invalid["status"], invalid["code"]) == ("a", "invalid", "E_INPUT_VALIDATION")
    assert invalid["message"].startswith("sample_steps: got 0")
    assert (good["id"], good["status"]) == ("b", "success")


def test_a_missing_file_is_its_rows_mistake(farm, worker, order):
    order.file.write_text("\n".join([HEADER, "a,x,nothing.png,https://example.org/voice.wav", LINE.format("b")]))
    assert {each.id: each.status for each in run(farm, order)} == {"a": "invalid", "b": "success"}


def test_another_run_has_nothing_to_do(farm, worker, order):
    run(farm, order)
    jobs = len(farm.jobs(99))
    before = written(order)
    assert run(farm, order) == []
    assert (len(farm.jobs(99)), written(order)) == (jobs, before)


def test_a_run_that_was_broken_off_is_gone_on_with(farm, order):
    # Given a run that is left while its first jobs are in flight, which then end
    with open_results(order.out, batch=order.id) as results:
        batch = Batch(farm, order, results)
        thread = threading.Thread(target=lambda: next(batch.run()))
        thread.start()
        while len(farm.context.registry.jobs.live()) < 3:
            pass
        first = set(farm.context.registry.jobs.live())
        worker = Worker(farm)
        worker.thread.start()
        thread.join()
    # When the same file is run again
    outcomes = run(farm, order)
    worker.stopped.set()
    worker.thread.join()
    # Then no row has two jobs, and each has its line
    assert first <= {each["job_id"] for each in written(order)}
    assert (len(farm.jobs(99)), len(written(order))) == (9, 9)
    assert len(outcomes) < 9


def test_files_with_the_same_ids_may_share_their_results(farm, worker, order, tmp_path):
    run(farm, order)
    worker.fails = lambda job_id: True
    other = order.model_copy(update={"file": tmp_path / "other.csv"})
    other.file.write_text("\n".join([HEADER, LINE.format("row0")]))
    assert [outcome.status for outcome in run(farm, other)] == ["error"]
    assert run(farm, order) == []
    lines = [(each["id"], each["status"], each["batch"]) for each in written(order)]
    assert sorted(lines[:9]) == [(f"row{number}", "success", order.id) for number in range(9)]
    assert lines[9:] == [("row0", "error", other.id)]


def test_a_mistake_is_told_again_by_another_run(farm, worker, order):
    order.file.write_text("\n".join([HEADER, LINE.format("a"), LINE.format("a")]))
    run(farm, order)
    (again,) = run(farm, order)
    assert (again.id, again.status) == ("a", "invalid")


def test_results_that_were_lost_are_found_again(farm, worker, order):
    run(farm, order)
    before = {each["id"]: each["job_id"] for each in written(order)}
    order.out.unlink()
    run(farm, order)
    assert {each["id"]: each["job_id"] for each in written(order)} == before


def test_what_failed_is_tried_again_by_another_run_and_only_there(farm, worker, order):
    worker.fails = lambda job_id: farm.context.registry.jobs.request(job_id).prompt == "unlucky"
    order.file.write_text("\n".join([HEADER, LINE.format("a").replace("a woman talks", "unlucky"), LINE.format("b")]))
    assert {each.id: each.status for each in run(farm, order)} == {"a": "error", "b": "success"}
    assert {each["id"]: each["code"] for each in written(order)} == {"a": "E_GENERATION_RUNTIME", "b": ""}
    worker.fails = lambda job_id: False
    (again,) = run(farm, order)
    assert (again.id, again.status) == ("a", "success")
    assert [each["status"] for each in written(order)] == ["success", "success"]
    assert len(farm.jobs(99)) == 3


def test_a_row_may_have_an_idempotency_key_of_its_own(farm, worker, order):
    order.file.write_text("\n".join([f"{HEADER},idempotency_key", LINE.format("a") + ",mine"]))
    (outcome,) = run(farm, order)
    assert farm.context.registry.jobs.claim_idempotency_key("mine", "another") == outcome.job_id


@pytest.mark.parametrize("away", [FarmUnreachable("no broker answers"), UploadFailed("the disk is full")], ids=repr)
def test_a_broker_or_store_that_is_away_for_a_moment_is_waited_for(farm, worker, order, monkeypatch, away):
    submit, calls = farm.submit, []

    def fragile(fields):
        calls.append(fields)
        if len(calls) % 2:
            raise away
        return submit(fields)

    monkeypatch.setattr(farm, "submit", fragile)
    assert len(run(farm, order)) == 9


def test_a_broker_that_is_away_for_long_ends_the_run(farm, order, monkeypatch):
    monkeypatch.setattr("farm.batch.run.PATIENCE_S", 0.05)
    broken = Farm(settings=farm.context.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(FarmUnreachable):
        run(broken, order)


def test_a_broker_that_has_lost_the_jobs_ends_the_run_and_says_what_to_do(farm, order, broker):
    def lose_all() -> None:
        while len(farm.context.registry.jobs.live()) < 3:
            pass
        with redis.Redis.from_url(broker) as client:
            client.flushall()

    thread = threading.Thread(target=lose_all)
    thread.start()
    with pytest.raises(FarmUnreachable, match=r"the broker has lost job .*; `farm recover`, then"):
        run(farm, order)
    thread.join()


def test_a_batch_is_known_by_its_file(farm, order):
    remember(farm, order)
    assert remembered(farm, order.id) == order
    assert order.model_copy(update={"in_flight": 9}).id == order.id
    with pytest.raises(InvalidInput, match="there is no such batch"):
        remembered(farm, "../secret")


@pytest.mark.parametrize(
    "content",
    [b"my,own\nthings,here\n", bytes(range(256)), f"{','.join(COLUMNS)}\n{'x' * 200_000}".encode()],
    ids=["another table", "no text", "no table"],
)
def test_a_file_that_holds_something_else_is_left_as_it_is(tmp_path, content):
    (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match="holds something else"), open_results(tmp_path / "results.csv", batch="b"):
        pass
    assert (tmp_path / "results.csv").read_bytes() == content


def test_two_runs_do_not_write_into_one_file(tmp_path):
    with (
        open_results(tmp_path / "results.csv", batch="b"),
        pytest.raises(InvalidInput, match="another `farm batch` writes there"),
        open_results(tmp_path / "results.csv", batch="b"),
    ):
        pass


def test_a_line_that_was_cut_off_says_nothing(tmp_path):
    with open_results(tmp_path / "results.csv", batch="b") as results:
        results.add(Outcome("a", "success", "1"))
    with (tmp_path / "results.csv").open("a") as file:
        file.write("b,success")
    with open_results(tmp_path / "results.csv", batch="b") as results:
        assert results.done == {"a"}
    assert [line.split(",")[0] for line in (tmp_path / "results.csv").read_text().split()] == [COLUMNS[0], "a"]


def test_a_folder_that_is_missing_is_said(tmp_path):
    with (
        pytest.raises(InvalidInput, match=r"out: got .*it cannot be written"),
        open_results(tmp_path / "no" / "x.csv", batch="b"),
    ):
        pass
