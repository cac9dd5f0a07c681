"""A running batch: its jobs, its results, and resuming it."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.batch.results import COLUMNS, Outcome, open_results
from farm.batch.run import Batch, BatchSpec, load_batch, save_batch
from farm.client import Farm
from farm.errors import (
    FarmUnreachable,
    GenerationFailed,
    InvalidInput,
    QuotaExceeded,
    UploadFailed,
)
from farm.job import Result
from farm.settings import Settings
from tests.conftest import EXAMPLES

HEADER = "id,prompt,cond_video,cond_audio.person1"
LINE = "{},a woman talks,https://example.org/face.png,https://example.org/voice.wav"


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker))


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.batch.run.POLL_INTERVAL_S", 0.01)


class Worker:
    """Ends every live job, and records the most that were live at once."""

    def __init__(self, farm: Farm) -> None:
        self.registry = farm.context.registry
        self.most_live_jobs = 0
        self.fails: Callable[[str], bool] = lambda job_id: False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self.stopped.wait(0.02):
            live = self.registry.jobs.live()
            self.most_live_jobs = max(self.most_live_jobs, len(live))
            for job_id in live:
                if self.fails(job_id):
                    self.registry.jobs.fail(
                        job_id, GenerationFailed("no luck"), at_stage="chunk_0_pre"
                    )
                else:
                    self.registry.jobs.end(
                        job_id, "success", Result.model_validate(result_of(job_id))
                    )
                self.registry.jobs.close(job_id)


def result_of(job_id: str) -> dict[str, Any]:
    video = {
        "url": f"https://example.org/{job_id}.mp4",
        "bytes": 9,
        "thumbnail_url": "https://example.org/t.jpg",
    }
    timings = {"sampling_ms": 1500, "decode_ms": 400, "mux_ms": 90_000}
    return {
        "job_id": job_id,
        "status": "success",
        "video": video,
        "params": {"base_seed": 42},
        "warnings": ("it is cut off", "it is silent"),
        "timings": timings,
    }


@pytest.fixture
def worker(farm: Farm) -> Iterator[Worker]:
    worker = Worker(farm)
    worker.thread.start()
    yield worker
    worker.stopped.set()
    worker.thread.join()


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    lines = [HEADER, *(LINE.format(f"row{number}") for number in range(9))]
    (tmp_path / "jobs.csv").write_text("\n".join(lines))
    return BatchSpec(file=tmp_path / "jobs.csv", output=tmp_path / "results.csv", max_in_flight=3)


def run(farm: Farm, spec: BatchSpec, *, remake: bool = False) -> list[Outcome]:
    with open_results(spec.output, batch=spec.id) as results:
        return list(Batch(farm, spec, results, remake).run())


def read_lines(spec: BatchSpec) -> list[dict[str, str]]:
    with spec.output.open(newline="") as file:
        return list(csv.DictReader(file))


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


def test_running_a_finished_batch_again_does_nothing(farm, worker, spec):
    run(farm, spec)
    jobs = len(farm.jobs(99))
    before = read_lines(spec)
    assert run(farm, spec) == []
    assert (len(farm.jobs(99)), read_lines(spec)) == (jobs, before)


def test_a_line_of_results_names_the_line_of_its_row(farm, worker, spec):
    spec.file.write_text("\n".join([HEADER, LINE.format("a"), LINE.format("a"), "b,,x.png,"]))
    run(farm, spec)
    lines = {(each["id"], each["status"]): each["line"] for each in read_lines(spec)}
    assert lines == {("a", "success"): "2", ("a", "invalid"): "3", ("b", "invalid"): "4"}


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


def test_a_batch_is_identified_by_its_file(farm, spec):
    save_batch(farm, spec)
    assert load_batch(farm, spec.id) == spec
    assert spec.model_copy(update={"max_in_flight": 9}).id == spec.id
    with pytest.raises(InvalidInput, match="there is no such batch"):
        load_batch(farm, "../secret")


@pytest.mark.parametrize(
    "content",
    [
        b"my,own\nthings,here\n",
        bytes(range(256)),
        f"{','.join(COLUMNS)}\n{'x' * 200_000}\n".encode(),
    ],
    ids=["another table", "not text", "not a table"],
)
def test_a_file_with_other_content_is_rejected_and_left_unchanged(tmp_path, content):
    (tmp_path / "results.csv").write_bytes(content)
    with (
        pytest.raises(InvalidInput, match="has other content"),
        open_results(tmp_path / "results.csv", batch="b"),
    ):
        pass
    assert (tmp_path / "results.csv").read_bytes() == content


def test_a_results_file_is_locked_by_its_run(tmp_path):
    with (
        open_results(tmp_path / "results.csv", batch="b"),
        pytest.raises(InvalidInput, match="another `farm batch` is writing to it"),
        open_results(tmp_path / "results.csv", batch="b"),
    ):
        pass


def test_earlier_results_survive_a_run_that_is_killed_as_it_begins(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    with open_results(path, batch="b") as results:
        results.add(Outcome("a", "success", "1"))
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("farm.batch.results.Results", killed)
    with suppress(KeyboardInterrupt), open_results(path, batch="b"):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@a", "\t=1", "'=1", "'", "a"])
def test_no_cell_is_taken_for_a_formula_and_ids_are_found_again(tmp_path, text):
    path = tmp_path / "results.csv"
    with open_results(path, batch="b") as results:
        results.add(Outcome(text, "success", "1", message=text))
    for _ in range(2):
        with path.open(newline="") as file:
            (line,) = csv.DictReader(file)
        assert line["id"] == line["message"] == (text if text == "a" else f"'{text}")
        with open_results(path, batch="b") as results:
            assert results.done == {text}


@pytest.mark.parametrize("cut", ["b,success", "b,success,2,,,,,,,ba"])
def test_a_truncated_last_line_is_ignored(tmp_path, cut):
    with open_results(tmp_path / "results.csv", batch="batch") as results:
        results.add(Outcome("a", "success", "1"))
    with (tmp_path / "results.csv").open("a") as file:
        file.write(cut)
    with open_results(tmp_path / "results.csv", batch="batch") as results:
        assert results.done == {"a"}
    assert [line.split(",")[0] for line in (tmp_path / "results.csv").read_text().split()] == [
        COLUMNS[0],
        "a",
    ]


def saved_by_excel(path: Path, delimiter: str = ",", extra: str = "") -> None:
    """Saves results again as Excel does: BOM, CRLF, another delimiter, a column of the user's."""
    with path.open(newline="") as file:
        header, *lines = [[*line, extra] if extra else line for line in csv.reader(file)]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *lines])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("extra", ["", "note"])
def test_results_that_a_spreadsheet_has_saved_are_recognised(tmp_path, delimiter, extra):
    path = tmp_path / "results.csv"
    with open_results(path, batch="b") as results:
        results.add(Outcome("a", "success", "1", message="one, two; three"))
        results.add(Outcome("x", "error", "2"))
    saved_by_excel(path, delimiter, extra)
    with open_results(path, batch="b") as results:
        assert results.done == {"a"}
        results.add(Outcome("x", "success", "3"))
    with path.open(newline="") as file:
        done, again = csv.DictReader(file)
    assert (done["id"], done["message"], again["job_id"]) == ("a", "one, two; three", "3")
    assert done.get("note") == (extra or None)


def test_results_in_another_encoding_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "results.csv"
    with open_results(path, batch="b") as results:
        results.add(Outcome("für", "success", "1"))
    path.write_bytes(path.read_text("utf-8").encode("windows-1252"))
    with (
        pytest.raises(InvalidInput, match=r"results in UTF-8 \(Excel saves them as 'CSV UTF-8'\)"),
        open_results(path, batch="b"),
    ):
        pass


def test_a_missing_folder_is_reported(tmp_path):
    with (
        pytest.raises(InvalidInput, match=r"output: got .*it cannot be written"),
        open_results(tmp_path / "no" / "x.csv", batch="b"),
    ):
        pass
