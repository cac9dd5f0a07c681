"""What a batch's file says, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.batch.rows import Row, rows
from farm.errors import InvalidInput

EXAMPLES = Path(__file__).parents[3] / "examples"
Write = Callable[..., list[Row]]
HEADER = "id,prompt,cond_video,cond_audio.person1"
LINE = "a woman talks,https://example.org/face.png,https://example.org/voice.wav"


@pytest.fixture
def table(tmp_path: Path) -> Write:
    """The rows of a CSV of these lines."""

    def write(*lines: str, encoding: str = "utf-8") -> list[Row]:
        (tmp_path / "jobs.csv").write_bytes("\n".join(lines).encode(encoding))
        return list(rows(tmp_path / "jobs.csv"))

    return write


@pytest.fixture
def objects(tmp_path: Path) -> Write:
    """The rows of JSON Lines of these objects, or of lines as they are."""

    def write(*lines: object) -> list[Row]:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "jobs.jsonl").write_text("\n".join(texts))
        return list(rows(tmp_path / "jobs.jsonl"))

    return write


def mistake(row: Row) -> str:
    with pytest.raises(InvalidInput) as caught:
        row.request()
    return caught.value.message


def test_a_line_of_a_table_is_a_request(table):
    (row,) = table(f"{HEADER},sample_steps,use_teacache,bbox", f"a,{LINE},8,true,")
    request = row.request()
    assert (row.line, row.name) == (2, "a")
    assert (request.prompt, request.sample_steps, request.use_teacache) == ("a woman talks", 8, True)
    assert request.cond_audio.person1 == "https://example.org/voice.wav"


def test_an_object_is_a_request(objects):
    fields = {"prompt": "x", "cond_video": "https://e.org/x.png", "cond_audio": {"person1": "https://e.org/x.wav"}}
    one, two = objects({"id": 7, **fields}, {**fields, "sample_steps": 4})
    assert (one.name, one.request().prompt, two.request().sample_steps) == ("7", "x", 4)


@pytest.fixture
def batch(tmp_path: Path) -> Write:
    """The rows of the contract's batch of these items."""

    def write(*items: object, **of_all: object) -> list[Row]:
        (tmp_path / "jobs.json").write_text(json.dumps({"batch": items, **of_all}))
        return list(rows(tmp_path / "jobs.json"))

    return write


GIVEN = {"prompt": "x", "cond_video": "https://e.org/x.png", "cond_audio": {"person1": "https://e.org/x.wav"}}


def test_an_item_of_a_batch_is_a_request_with_an_id_or_its_place(batch):
    first, second = batch({"id": "a", **GIVEN}, {**GIVEN, "sample_steps": 4})
    assert [(row.line, row.name) for row in (first, second)] == [(1, "a"), (2, "item-1")]
    assert second.request().sample_steps == 4


def test_what_a_batch_says_of_its_results_is_said_of_each_item(batch):
    ours, own = {"store": "s3", "bucket": "ours"}, {"store": "s3", "bucket": "own"}
    first, second = batch(GIVEN, {**GIVEN, "output_config": own}, output_config=ours)
    assert (first.fields["output_config"], second.fields["output_config"]) == (ours, own)


def test_a_bad_item_is_its_own_affair(batch):
    kind, typo, good = batch("x", {"promt": "x"}, GIVEN)
    assert mistake(kind) == "request: got str; allowed: an object"
    assert "did you mean prompt?" in mistake(typo)
    assert good.request()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "batch: got NoneType; allowed: a list of requests"),
        ('{"batch": {}}', "batch: got dict; allowed: a list"),
        ('{"batch": [], "output": {}}', "output: there is no such field of a batch; allowed: batch and output_config"),
        ("[]", "got list; allowed: one JSON object"),
        ("{", "it is not JSON"),
    ],
)
def test_an_object_that_is_no_batch_stops_everything(tmp_path, text, why):
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(InvalidInput, match=why):
        list(rows(tmp_path / "jobs.json"))


def test_paths_of_items_start_at_the_files_folder(batch, tmp_path):
    (tmp_path / "face.png").touch()
    (row,) = batch({**GIVEN, "cond_video": "face.png"})
    assert row.request().cond_video == str(tmp_path / "face.png")


def test_parts_of_fields_are_columns(table):
    columns = "prompt,cond_video,cond_audio.person1,cond_audio.person2,audio_type,bbox.person1,bbox.person2"
    cells = 'x,https://e.org/x.png,https://e.org/1.wav,https://e.org/2.wav,para,"[0,0,9,9]","[9,0,20,9]"'
    (row,) = table(columns, cells)
    assert row.request().bbox.person2 == (9, 0, 20, 9)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_other_countries_are_read(table, delimiter):
    lines = (HEADER.replace(",", delimiter), f"a,{LINE}".replace(",", delimiter))
    (row,) = table(*lines, encoding="utf-8-sig")
    assert row.request().prompt == "a woman talks"


def test_a_cell_may_hold_the_delimiter_and_lines(table):
    first, second = table(HEADER, 'a,"one, two\nthree",https://e.org/x.png,https://e.org/x.wav', f"b,{LINE}")
    assert first.request().prompt == "one, two\nthree"
    assert second.line == 4


def test_paths_start_at_the_files_folder(table, tmp_path):
    (tmp_path / "face.png").touch()
    (tmp_path / "voice.wav").touch()
    (row,) = table(HEADER, "a,x,face.png,voice.wav")
    assert row.request().cond_video == str(tmp_path / "face.png")
    assert row.request().cond_audio.person1 == str(tmp_path / "voice.wav")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("id,promt,cond_video", "'promt'; allowed: id and the contract's fields; did you mean prompt?"),
        ("id,cond_audio.persn1", "did you mean cond_audio.person1?"),
        ("id,zzz", "allowed: id and the contract's fields"),
        ("id,prompt,prompt", "'prompt' is given twice"),
        ("cond_audio,cond_audio.person1", "'cond_audio' is given twice"),
        ("", "names the columns"),
    ],
)
def test_a_wrong_header_stops_everything(table, header, why):
    with pytest.raises(InvalidInput, match=why.replace("?", r"\?")):
        table(header, "1,2,3")


def test_a_bad_row_is_its_own_affair(table):
    wrong, short, good = table(f"{HEADER},sample_steps", f"a,{LINE},many", "b,only", f"c,{LINE},4")
    assert mistake(wrong).startswith("sample_steps: got 'many'")
    assert mistake(short) == "request: the line has 2 cells; allowed: 5, as the header"
    assert good.request().sample_steps == 4


def test_a_bad_line_is_its_own_affair(objects):
    broken, deep, kind, typo = objects("{", '{"lora": ' + "[" * 100_000, "[1]", {"promt": "x"})
    assert "it is not JSON" in mistake(broken)
    assert "it is not JSON" in mistake(deep)
    assert "got list; allowed: an object" in mistake(kind)
    assert "did you mean prompt?" in mistake(typo)


def test_an_id_is_given_once(table):
    first, second, other = table(HEADER, f"a,{LINE}", f"a,{LINE}", f"b,{LINE}")
    assert mistake(second) == "id: got 'a', which line 2 has already; allowed: an id for each"
    assert (first.mistake, other.mistake) == (None, None)


@pytest.mark.parametrize("given", ["", "a\nb", "\ud800", "x" * 201, [1], {}], ids=repr)
def test_what_cannot_stand_in_the_results_is_no_id(objects, given):
    odd, good = objects({**GIVEN, "id": given}, {**GIVEN, "id": "x" * 200})
    assert mistake(odd).startswith("id: got ")
    assert (odd.name, good.mistake) == ("line-1", None)


def test_a_row_without_an_id_is_known_by_what_it_says(table):
    header = HEADER.removeprefix("id,")
    one, again, other = table(header, LINE, LINE, LINE.replace("woman", "man"))
    moved, *_ = table(header, LINE.replace("woman", "man"), LINE)
    assert len({one.name, again.name, other.name}) == 3
    assert again.name == f"{one.name}-2"
    assert moved.name == other.name


def test_lines_that_are_empty_are_no_rows(table, objects):
    assert len(table(HEADER, "", f"a,{LINE}", "")) == 1
    assert objects("", " ") == []


@pytest.mark.parametrize(
    ("name", "content", "why"), [("jobs.txt", b"", "whose name ends in"), ("jobs.csv", b"\xff", "UTF-8")]
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=why):
        list(rows(tmp_path / name))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(rows(tmp_path / "jobs.csv"))


COUNTED = """
import sys, tracemalloc
from pathlib import Path
from farm.batch.rows import rows
tracemalloc.start()
print(sum(1 for _ in rows(Path(sys.argv[1]))), tracemalloc.get_traced_memory()[1])
"""


def test_rows_are_read_one_by_one(tmp_path):
    with (tmp_path / "jobs.csv").open("w") as file:
        print(HEADER, file=file)
        for number in range(10_000):
            print(f"{number},{LINE}{'x' * 2000}", file=file)
    # In a process of its own: here, threads of other tests may take memory meanwhile.
    command = [sys.executable, "-c", COUNTED, str(tmp_path / "jobs.csv")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count, most = map(int, said.split())
    assert count == 10_000
    assert most < 6e6, "ids alone are kept"


@pytest.mark.parametrize("name", ["batch.csv", "batch.json"])
def test_an_example_is_three_good_rows(name):
    wanted = [row.request() for row in rows(EXAMPLES / name)]
    assert [request.speakers for request in wanted] == [1, 1, 2]
    assert all(Path(request.cond_video).is_file() for request in wanted)
