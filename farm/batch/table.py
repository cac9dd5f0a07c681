"""Tables as spreadsheets save them: their delimiter, `sep=` line, empty lines and columns."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".csv", ".tsv", ".txt")
DELIMITERS = ",;\t"
WINDOWS = "cp1252"
BLOCK = 1 << 20

_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')
"""A first line by which Excel is told the delimiter."""


@dataclass(frozen=True)
class Table:
    """A header, and the lines below it, which are read one by one."""

    columns: list[str]
    """Without empty columns at the end; none if there is no header."""
    lines: Iterator[tuple[int, list[str] | csv.Error]]
    """The number of each line, from 1, and its cells or the error in how it is written.

    Lines without any text are left out, and empty cells beyond the columns.
    """


def read_table(lines: Iterable[str]) -> Table:
    """The table in lines of text; blanks behind a delimiter do not belong to the cell.

    Raises csv.Error if there is no header that can be read.
    """
    remaining = iter(lines)
    header = next(remaining, "").removeprefix("\ufeff")
    separator = _SEPARATOR_LINE.fullmatch(header)
    begin = 2  # lines are counted from 1, and the header is one
    if separator:
        header = next(remaining, "")
        begin += 1
    delimiter = separator[1] if separator else max(DELIMITERS, key=header.count)
    first = csv.reader([header], delimiter=delimiter, skipinitialspace=True)
    columns = [cell.strip() for cell in next(first, [])]
    _drop_empty(columns, 0)
    reader = csv.reader(remaining, delimiter=delimiter, skipinitialspace=True)
    return Table(columns, _with_text(_lines(reader, begin), len(columns)))


def table_of(rows: Iterator[tuple[int, list[str]]]) -> Table:
    """The table in numbered rows of cells, the first of which is the header."""
    columns = [cell.strip() for cell in next(rows, (1, []))[1]]
    _drop_empty(columns, 0)
    return Table(columns, _with_text(rows, len(columns)))


def encoding_of(path: Path) -> str:
    """UTF-16 by its mark, UTF-8, or else Windows-1252, as western Excel saves a plain CSV."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        file.seek(0)
        try:
            while part := file.read(BLOCK):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return WINDOWS
    return "utf-8-sig"


def encoding_note(path: Path) -> str:
    """What to tell of a table whose encoding was guessed; nothing of any other file."""
    if path.suffix.lower() not in SUFFIXES or encoding_of(path) != WINDOWS:
        return ""
    return f"{path}: it is not UTF-8, and read as Windows-1252; Excel saves 'CSV UTF-8', too"


Line = tuple[int, list[str] | csv.Error]


def _lines(reader: Iterator[list[str]], begin: int) -> Iterator[Line]:
    while True:
        line = reader.line_num + begin  # type: ignore[attr-defined]
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, error


def _with_text(lines: Iterable[Line], columns: int) -> Iterator[Line]:
    """Lines that have text, without empty cells beyond the columns."""
    for line, cells in lines:
        if isinstance(cells, csv.Error):
            yield line, cells
        elif any(cell.strip() for cell in cells):
            _drop_empty(cells, columns)
            yield line, cells


def _drop_empty(cells: list[str], columns: int) -> None:
    """Removes empty cells from the end as long as there are more than `columns`."""
    while len(cells) > columns and not cells[-1].strip():
        cells.pop()
