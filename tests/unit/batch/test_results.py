"""The file of a batch's results."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

import pytest

from farm.batch.results import COLUMNS, Outcome, open_results
from farm.errors import InvalidInput


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
