"""Reading the rows of a batch's file."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from openpyxl import Workbook

from farm.batch.rows import Row, rows
from farm.batch.table import encoding_note
from farm.errors import InvalidInput
from tests.support.commands import run_python

EXAMPLES = Path(__file__).parents[3] / "examples"
Write = Callable[..., list[Row]]
HEADER = "id,prompt,cond_video,cond_audio.person1"
LINE = "a woman talks,https://example.org/face.png,https://example.org/voice.wav"


@pytest.fixture
def table(tmp_path: Path) -> Write:
    """Returns the rows of a CSV with these lines."""

    def write(*lines: str, encoding: str = "utf-8") -> list[Row]:
        (tmp_path / "jobs.csv").write_bytes("\n".join(lines).encode(encoding))
        return list(rows(tmp_path / "jobs.csv"))

    return write


@pytest.fixture
def objects(tmp_path: Path) -> Write:
    """Returns the rows of JSON Lines with these objects, or with lines as they are."""

    def write(*lines: object) -> list[Row]:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "jobs.jsonl").write_text("\n".join(texts))
        return list(rows(tmp_path / "jobs.jsonl"))

    return write


def error_of(row: Row) -> str:
    """The error of an invalid row."""
    with pytest.raises(InvalidInput) as caught:
        row.request()
    return caught.value.message


def test_a_table_row_becomes_a_request(table):
    (row,) = table(f"{HEADER},sample_steps,use_teacache,bbox", f"a,{LINE},8,true,")
    request = row.request()
    assert (row.line, row.id) == (2, "a")
    assert (request.prompt, request.sample_steps, request.use_teacache) == (
        "a woman talks",
        8,
        True,
    )
    assert request.cond_audio.person1 == "https://example.org/voice.wav"


def test_a_json_line_becomes_a_request(objects):
    fields = {
        "prompt": "x",
        "cond_video": "https://e.org/x.png",
        "cond_audio": {"person1": "https://e.org/x.wav"},
    }
    one, two = objects({"id": 7, **fields}, {**fields, "sample_steps": 4})
    assert (one.id, one.request().prompt, two.request().sample_steps) == ("7", "x", 4)


@pytest.fixture
def batch(tmp_path: Path) -> Write:
    """Returns the rows of the contract's batch with these items."""

    def write(*items: object, **batch_fields: object) -> list[Row]:
        (tmp_path / "jobs.json").write_text(json.dumps({"batch": items, **batch_fields}))
        return list(rows(tmp_path / "jobs.json"))

    return write


GIVEN = {
    "prompt": "x",
    "cond_video": "https://e.org/x.png",
    "cond_audio": {"person1": "https://e.org/x.wav"},
}


def test_a_batch_item_is_named_by_its_id_or_its_index(batch):
    first, second = batch({"id": "a", **GIVEN}, {**GIVEN, "sample_steps": 4})
    assert [(row.line, row.id) for row in (first, second)] == [(1, "a"), (2, "item-1")]
    assert second.request().sample_steps == 4


def test_output_config_of_a_batch_is_the_default_of_its_items(batch):
    ours = {"store": "s3", "bucket": "ours"}
    own = {"store": "s3", "bucket": "own"}
    first, second = batch(GIVEN, {**GIVEN, "output_config": own}, output_config=ours)
    assert (first.fields["output_config"], second.fields["output_config"]) == (ours, own)


def test_an_invalid_item_does_not_affect_the_others(batch):
    kind, typo, good = batch("x", {"promt": "x"}, GIVEN)
    assert error_of(kind) == "request: got string; allowed: an object"
    assert "did you mean prompt?" in error_of(typo)
    assert good.request()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "batch: it is missing; allowed: "),
        ('{"batch": {}}', "batch: got object; allowed: a list"),
        (
            '{"batch": [], "output": {}}',
            "output: there is no such field of a batch; allowed: batch and output_config",
        ),
        ("[]", "got array; allowed: one JSON object"),
        ("{", "it is not JSON"),
    ],
)
def test_an_object_that_is_not_a_batch_is_rejected(tmp_path, text, why):
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(InvalidInput, match=why):
        list(rows(tmp_path / "jobs.json"))


def test_paths_of_items_are_relative_to_the_files_folder(batch, tmp_path):
    (tmp_path / "face.png").touch()
    (row,) = batch({**GIVEN, "cond_video": "face.png"})
    assert row.request().cond_video == str(tmp_path / "face.png")


def test_parts_of_fields_can_be_columns(table):
    columns = "prompt,cond_video,cond_audio.person1,cond_audio.person2,audio_type"
    columns += ",bbox.person1,bbox.person2"
    cells = 'x,https://e.org/x.png,https://e.org/1.wav,https://e.org/2.wav,para,"[0,0,9,9]","[9,0,20,9]"'
    (row,) = table(columns, cells)
    assert row.request().bbox.person2 == (9, 0, 20, 9)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_delimiters_and_a_byte_order_mark_are_accepted(table, delimiter):
    lines = (HEADER.replace(",", delimiter), f"a,{LINE}".replace(",", delimiter))
    (row,) = table(*lines, encoding="utf-8-sig")
    assert row.request().prompt == "a woman talks"


def test_a_quoted_cell_may_contain_the_delimiter_and_line_breaks(table):
    first, second = table(
        HEADER, 'a,"one, two\nthree",https://e.org/x.png,https://e.org/x.wav', f"b,{LINE}"
    )
    assert first.request().prompt == "one, two\nthree"
    assert (first.line, second.line) == (2, 4)


def test_a_first_line_may_name_the_delimiter(table):
    lines = ("sep=;", HEADER.replace(",", ";"), f"a,{LINE}".replace(",", ";"))
    (row,) = table(*lines, encoding="utf-8-sig")
    assert (row.line, row.request().prompt) == (3, "a woman talks")
    (row,) = table("sep=|", HEADER.replace(",", "|"), f"a,{LINE}".replace(",", "|"))
    assert row.request().prompt == "a woman talks"


def test_empty_columns_at_the_end_are_ignored(table):
    (row,) = table(f"{HEADER},, ", f"a,{LINE},,")
    assert row.request().prompt == "a woman talks"


def test_a_cell_without_a_column_is_an_error(table):
    (row,) = table(f"{HEADER},,", f"a,{LINE},,what is this")
    assert error_of(row) == "request: the line has 6 cells; allowed: 4, as the header"


@pytest.mark.parametrize("lines", [(",,,",), (" , ,, ", ",,,,,,"), ("", ",,,")], ids=str)
def test_lines_of_delimiters_are_skipped(table, lines):
    (row,) = table(HEADER, *lines, f"a,{LINE}")
    assert (row.line, row.error) == (2 + len(lines), None)


def test_blanks_behind_a_delimiter_do_not_belong_to_the_cell(table, tmp_path):
    (tmp_path / "face.png").touch()
    (row,) = table(HEADER.replace(",", ", "), 'a, "one, two", face.png, https://e.org/x.wav')
    assert (row.id, row.request().prompt) == ("a", "one, two")
    assert row.request().cond_video == str(tmp_path / "face.png")


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        *[("use_teacache", cell, True) for cell in ("true", "True", "TRUE", "TRUE ")],
        *[("use_teacache", cell, False) for cell in ("false", "False", "FALSE")],
        ("offload_model", "TRUE", True),
        ("sample_steps", "4.0", 4),
        ("base_seed", "42.", 42),
        ("base_seed", "-1.0", -1),
        ("base_seed", "9007199254740993.0", 9_007_199_254_740_993),
        ("num_persistent_param_in_dit", "8.00", 8),
        ("sample_shift", "4.0", 4.0),
        ("negative_prompt", "TRUE", "TRUE"),
        ("idempotency_key", "4.0", "4.0"),
    ],
)
def test_booleans_and_numbers_may_be_written_as_excel_and_pandas_do(table, column, cell, value):
    (row,) = table(f"{HEADER},{column}", f"a,{LINE},{cell}")
    assert getattr(row.request(), column) == value


@pytest.mark.parametrize("cell", ["4.5", "1.23457E+16", "TRUE"])
def test_what_is_no_whole_number_stays_an_error(table, cell):
    (row,) = table(f"{HEADER},base_seed", f"a,{LINE},{cell}")
    assert error_of(row).startswith("base_seed: got ")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_paths_may_be_composed_or_decomposed(table, tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    face = tmp_path / unicodedata.normalize(form, "müller.png")
    face.touch()
    (row,) = table(HEADER, f"a,x,{unicodedata.normalize(other, 'müller.png')},voice.wav")
    assert row.request().cond_video == str(face)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252"])
def test_a_table_is_read_in_the_encodings_of_excel(table, encoding):
    (row,) = table("id;text", "a;für 5 €", encoding=encoding)
    assert row.fields == {"tts_audio": {"text": "für 5 €"}}


@pytest.mark.parametrize(("name", "is_told"), [("a.csv", True), ("a.jsonl", False)])
def test_a_guessed_encoding_is_told(tmp_path, name, is_told):
    (tmp_path / name).write_text("für", encoding="windows-1252")
    assert encoding_note(tmp_path / name).endswith("'CSV UTF-8', too") is is_told
    (tmp_path / name).write_text("für", encoding="utf-8")
    assert encoding_note(tmp_path / name) == ""


def test_no_table_in_an_encoding_that_windows_1252_cannot_be_is_read(tmp_path):
    (tmp_path / "jobs.csv").write_bytes(b"id,prompt\na,\x81")
    with pytest.raises(InvalidInput, match=r"its encoding is unknown; allowed: UTF-8"):
        list(rows(tmp_path / "jobs.csv"))


def test_a_workbook_of_excel_is_a_table(tmp_path):
    workbook = Workbook()
    for cells in [
        ("ID", "Text", "Sample Steps", "use_apg", None),
        (7, "für 5 €", 4.0, True),
        (),
        (None, 1.5),
    ]:
        workbook.active.append(cells)
    workbook.save(tmp_path / "jobs.xlsx")
    one, two = rows(tmp_path / "jobs.xlsx")
    assert (one.line, one.id) == (2, "7")
    assert one.fields == {"tts_audio": {"text": "für 5 €"}, "sample_steps": 4, "use_apg": True}
    assert (two.line, two.fields) == (4, {"tts_audio": {"text": "1.5"}})


def test_what_is_no_workbook_is_refused(tmp_path, monkeypatch):
    (tmp_path / "jobs.xlsx").write_text("id,text")
    with pytest.raises(InvalidInput, match="it is no workbook of Excel"):
        list(rows(tmp_path / "jobs.xlsx"))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InvalidInput, match=r"allowed: infinitetalk-farm\[excel\]"):
        list(rows(tmp_path / "jobs.xlsx"))


def test_columns_may_have_short_names_in_any_case(table):
    (row,) = table("ID,Prompt,Image,Text,VOICE,Sample Steps", " a , x , f.png , hello , de , 4 ")
    assert row.id == "a"
    assert row.fields == {
        "prompt": "x",
        "cond_video": "f.png",
        "tts_audio": {"text": "hello", "human1_voice": "de"},
        "sample_steps": 4,
    }


def test_a_header_that_is_not_csv_is_refused(table):
    with pytest.raises(InvalidInput, match="it is not CSV"):
        table("x" * 200_000)


def test_paths_are_relative_to_the_files_folder(table, tmp_path):
    (tmp_path / "face.png").touch()
    (tmp_path / "voice.wav").touch()
    (row,) = table(HEADER, "a,x,face.png,voice.wav")
    assert row.request().cond_video == str(tmp_path / "face.png")
    assert row.request().cond_audio.person1 == str(tmp_path / "voice.wav")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (
            "id,promt,cond_video",
            "'promt'; the first line names the columns: id, image, video, audio, audio2, "
            "text, voice, voice2, and all fields of a request; did you mean prompt?",
        ),
        ("id,cond_audio.persn1", "did you mean cond_audio.person1?"),
        ("face.png,voice.wav", "'face.png'; the first line names the columns: id, image"),
        ("id,prompt,prompt", "'prompt' is given twice"),
        ("cond_audio,cond_audio.person1", "'cond_audio' is given twice"),
        ("image,video", "'cond_video' is given twice"),
        ("", "names the columns"),
    ],
)
def test_an_invalid_header_is_rejected(table, header, why):
    with pytest.raises(InvalidInput, match=why.replace("?", r"\?")):
        table(header, "1,2,3")


def test_an_invalid_row_does_not_affect_the_others(table):
    wrong, short, good = table(f"{HEADER},sample_steps", f"a,{LINE},many", "b,only", f"c,{LINE},4")
    assert error_of(wrong).startswith("sample_steps: got 'many'")
    assert error_of(short) == "request: the line has 2 cells; allowed: 5, as the header"
    assert good.request().sample_steps == 4


def test_an_invalid_json_line_does_not_affect_the_others(objects):
    broken, deep, kind, typo = objects("{", '{"lora": ' + "[" * 100_000, "[1]", {"promt": "x"})
    assert "it is not JSON" in error_of(broken)
    assert "it is not JSON" in error_of(deep)
    assert "got array; allowed: an object" in error_of(kind)
    assert "did you mean prompt?" in error_of(typo)


def test_a_repeated_id_is_an_error(table):
    first, second, other = table(HEADER, f"a,{LINE}", f"a,{LINE}", f"b,{LINE}")
    assert error_of(second) == "id: got 'a', which line 2 has already; allowed: an id for each"
    assert (first.error, other.error) == (None, None)


@pytest.mark.parametrize("given", ["", "a\nb", "\ud800", "x" * 201, [1], {}], ids=repr)
def test_an_unprintable_or_long_id_is_an_error(objects, given):
    odd, good = objects({**GIVEN, "id": given}, {**GIVEN, "id": "x" * 200})
    assert error_of(odd).startswith("id: got ")
    assert (odd.id, good.error) == ("line-1", None)


def test_a_row_without_id_is_named_by_its_content(table):
    header = HEADER.removeprefix("id,")
    one, again, other = table(header, LINE, LINE, LINE.replace("woman", "man"))
    moved, *_ = table(header, LINE.replace("woman", "man"), LINE)
    assert len({one.id, again.id, other.id}) == 3
    assert again.id == f"{one.id}-2"
    assert moved.id == other.id


def test_empty_lines_are_skipped(table, objects):
    assert len(table(HEADER, "", f"a,{LINE}", "")) == 1
    assert objects("", " ") == []


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [("jobs.doc", b"", "whose name ends in"), ("jobs.jsonl", b"\xff", "UTF-8")],
)
def test_another_kind_of_file_is_rejected(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=why):
        list(rows(tmp_path / name))


def test_a_missing_file_is_rejected(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(rows(tmp_path / "jobs.csv"))


COUNTED = """
import sys, tracemalloc
from pathlib import Path
from farm.batch.rows import rows
tracemalloc.start()
print(sum(1 for _ in rows(Path(sys.argv[1]))), tracemalloc.get_traced_memory()[1])
"""


def test_rows_are_read_one_at_a_time(tmp_path):
    with (tmp_path / "jobs.csv").open("w") as file:
        print(HEADER, file=file)
        for number in range(10_000):
            print(f"{number},{LINE}{'x' * 2000}", file=file)
    # In a separate process, because threads of other tests may allocate memory meanwhile.
    done = run_python(COUNTED, str(tmp_path / "jobs.csv"))
    count, peak_bytes = map(int, done.stdout.split())
    assert count == 10_000
    assert peak_bytes < 6e6, "only ids are kept"


@pytest.mark.parametrize("name", ["batch.csv", "batch.json"])
def test_an_example_has_three_valid_rows(name):
    requests = [row.request() for row in rows(EXAMPLES / name)]
    assert [request.speakers for request in requests] == [1, 1, 2]
    assert all(Path(request.cond_video).is_file() for request in requests)
