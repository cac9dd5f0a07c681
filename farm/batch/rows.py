"""The rows of a batch, in CSV, a workbook of Excel, JSON Lines or one JSON.

An invalid row is reported and skipped; an invalid header fails the batch.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from farm.batch.sheet import open_sheet
from farm.batch.table import SUFFIXES, Table, encoding_of, read_table
from farm.errors import InvalidInput, did_you_mean
from farm.job import PARTS, SHORT_NAMES, TEXT_FIELDS, JobRequest, fields_from_text, named_as
from farm.job.files import batch_items, read_object, resolve_paths
from farm.validation import json_type, why_no_json

ID = "id"
"""The column, or key, that names a row; no field of the contract."""

COLUMNS = [ID, *TEXT_FIELDS]
"""The column names that a table may use."""

MAX_ID_LENGTH = 200
"""Characters; ids appear in the results, in logs and in a terminal."""


class ParsedRow(NamedTuple):
    """The number of a row, and its fields or the error in how it is written."""

    line: int
    fields: dict[str, Any] | InvalidInput
    names: Mapping[str, str] = MappingProxyType({})
    """The fields that columns name by short names."""


@dataclass(frozen=True)
class Row:
    """One request: `fields` for `JobRequest.parse`, or the `error` in how the row is written.

    `line` is the number of its first line, from 1; in one JSON, whose items may share a line, it is
    the number of the item.
    """

    line: int
    id: str
    """As given, or a digest of the content; the same each time the file is read."""
    fields: Mapping[str, Any]
    error: InvalidInput | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def request(self) -> JobRequest:
        """The request of the row; InvalidInput if it is invalid."""
        if self.error:
            raise self.error
        return JobRequest.parse(self.fields)

    def as_typed(self) -> AbstractContextManager[None]:
        """Errors of the block name columns of the table instead of fields."""
        return named_as(self.names)


def rows(file: Path) -> Iterator[Row]:
    """The rows of a .csv, .tsv, .txt, .xlsx, .jsonl or .json file, read one by one.

    Raises InvalidInput for another kind of file or an invalid header.
    """
    readers: dict[str, Callable[[Path], Iterator[ParsedRow]]] = {
        **dict.fromkeys(SUFFIXES, _read_table),
        ".xlsx": _read_sheet,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".json": _read_batch,
    }
    read = readers.get(file.suffix.lower())
    if read is None:
        raise InvalidInput(f"{file}: allowed: a file whose name ends in {', '.join(readers)}")
    try:
        yield from _with_ids(file, read(file))
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file}: its encoding is unknown; allowed: UTF-8 (Excel saves it as 'CSV UTF-8')"
        ) from error
    except csv.Error as error:
        raise InvalidInput(f"{file}: it is not CSV ({error})") from error
    except OSError as error:
        raise InvalidInput(f"{file}: it cannot be read ({error.strerror})") from error


def _with_ids(file: Path, parsed: Iterable[ParsedRow]) -> Iterator[Row]:
    """Rows with their ids.

    A repeated id is an error; an identical row without id is one more job.
    """
    lines_by_id: dict[str, int] = {}
    repeats: Counter[str] = Counter()
    for line, fields, names in parsed:
        if isinstance(fields, InvalidInput):
            yield Row(line, f"line-{line}", {}, fields)
            continue
        given = fields.pop(ID, None)
        if given is None:
            row_id = _digest(fields)
            repeats[row_id] += 1
            if repeats[row_id] > 1:
                row_id = f"{row_id}-{repeats[row_id]}"
            yield Row(line, row_id, resolve_paths(file, fields), names=names)
        elif not _is_valid_id(given):
            shown = repr(given)[:MAX_ID_LENGTH]
            allowed = f"a number, or 1 to {MAX_ID_LENGTH} printable characters"
            error = InvalidInput(f"id: got {shown}; allowed: {allowed}")
            yield Row(line, f"line-{line}", {}, error)
        else:
            first_line = lines_by_id.setdefault(str(given), line)
            if first_line == line:
                yield Row(line, str(given), resolve_paths(file, fields), names=names)
            else:
                yield Row(line, str(given), {}, _repeated_id(given, first_line))


def _repeated_id(given: str | int, first_line: int) -> InvalidInput:
    return InvalidInput(
        f"id: got {given!r}, which line {first_line} has already; allowed: an id for each"
    )


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _is_valid_id(row_id: Any) -> bool:
    if not isinstance(row_id, str | int):
        return False
    text = str(row_id)
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def _read_json_lines(file: Path) -> Iterator[ParsedRow]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield ParsedRow(number, _parse_json(line))


def _parse_json(line: str) -> dict[str, Any] | InvalidInput:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return InvalidInput(f"request: it is not JSON ({why_no_json(error)})")
    if isinstance(fields, dict):
        return fields
    return InvalidInput(f"request: got {json_type(fields)}; allowed: an object")


def _read_batch(file: Path) -> Iterator[ParsedRow]:
    """The items of the contract's batch, which is read as a whole."""
    return map(ParsedRow, count(1), batch_items(read_object(file)))


def _read_table(file: Path) -> Iterator[ParsedRow]:
    with file.open(encoding=encoding_of(file), newline="") as lines:
        yield from _parse_table(file, read_table(lines))


def _read_sheet(file: Path) -> Iterator[ParsedRow]:
    with open_sheet(file) as table:
        yield from _parse_table(file, table)


def _parse_table(file: Path, table: Table) -> Iterator[ParsedRow]:
    typed = [_name(column) for column in table.columns]
    columns = [SHORT_NAMES.get(name, name) for name in typed]
    names = {SHORT_NAMES[name]: name for name in typed if name in SHORT_NAMES}
    _check_header(file, columns)
    for line, cells in table.lines:
        if isinstance(cells, csv.Error):
            yield ParsedRow(line, InvalidInput(f"request: it is not CSV ({cells})"))
        else:
            yield ParsedRow(line, _parse_cells(columns, cells), names)


def _name(column: str) -> str:
    """The name of a field in a column, which has it in any case, and with blanks for _."""
    return column.casefold().replace(" ", "_")


def _check_header(file: Path, columns: list[str]) -> None:
    if not columns:
        raise InvalidInput(f"{file}: it is empty; allowed: a first line that names the columns")
    for column in columns:
        if column not in COLUMNS:
            hint = did_you_mean(column, [*COLUMNS, *SHORT_NAMES])
            raise InvalidInput(
                f"{file}: got the column {column!r}; the first line names the columns: {ID}, "
                f"{', '.join(SHORT_NAMES)}, and all fields of a request{hint}"
            )
        if columns.count(column) > 1 or _has_part_columns(column, columns):
            raise InvalidInput(
                f"{file}: the column {column!r} is given twice; allowed: one for each field"
            )


def _has_part_columns(column: str, columns: list[str]) -> bool:
    """Whether parts of the same field have columns too, like `bbox` beside `bbox.person1`."""
    if column not in PARTS:
        return False
    return any(other.startswith(f"{column}.") for other in columns)


def _parse_cells(columns: list[str], cells: list[str]) -> dict[str, Any] | InvalidInput:
    """The fields in a line of a table; an empty cell is an omitted field."""
    if len(cells) != len(columns):
        return InvalidInput(
            f"request: the line has {len(cells)} cells; allowed: {len(columns)}, as the header"
        )
    given = zip(columns, map(str.strip, cells), strict=True)
    return fields_from_text({column: cell for column, cell in given if cell})
