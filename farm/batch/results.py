"""The results of a batch: a CSV with one line per row, written as it ends.

Several batches may share the file, one after the other.
"""

from __future__ import annotations

import csv
import fcntl
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from farm.batch.table import Table, read_table
from farm.errors import FarmError, InvalidInput, one_line
from farm.job import JobStatus

DONE = "success"
INVALID = "invalid"
CHANGED = "changed"
"""Of a row that has a video but is not as it was then; never written."""
GPU_TIMINGS = ("load_ms", "sampling_ms", "decode_ms")
"""The timings of a result that are spent on a gpu worker."""


@dataclass(frozen=True)
class Outcome:
    """How a row ended: `success`, `error`, `cancelled`, or `invalid` if it never became a job."""

    id: str
    status: str
    job_id: str = ""
    url: str = ""
    seed: str = ""
    gpu_s: str = ""
    code: str = ""
    message: str = ""
    warnings: str = ""
    line: str = ""
    """Where its row begins in the batch's file."""
    digest: str = ""
    """That of its request with all files, to notice that a row was changed."""


BATCH = "batch"
"""The last column: the id of the batch that a line belongs to."""

COLUMNS = [*(column.name for column in fields(Outcome)), BATCH]
ADDED = {"line", "digest"}
"""Columns that results of earlier versions have not."""


def outcome_of_job(row_id: str, status: JobStatus) -> Outcome:
    """The outcome of a row whose job has ended."""
    result = status.result
    if result is None:
        return Outcome(row_id, status.state, status.job_id)
    if result.error:
        return Outcome(
            row_id,
            status.state,
            status.job_id,
            code=result.error.code,
            message=one_line(result.error.message),
        )
    gpu_s = sum(result.timings.get(timing, 0) for timing in GPU_TIMINGS) / 1000
    return Outcome(
        row_id,
        DONE,
        status.job_id,
        url=result.video.url if result.video else "",
        seed=str(result.params.get("base_seed", "")),
        gpu_s=f"{gpu_s:.1f}",
        warnings="; ".join(result.warnings),
    )


def outcome_of_error(row_id: str, error: FarmError) -> Outcome:
    """The outcome of a row that cannot become a job."""
    return Outcome(row_id, INVALID, code=error.code, message=one_line(error.message))


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by."""


def _as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe in front if it could."""
    return f"'{cell}" if cell.startswith((*FORMULA_STARTS, "'")) else cell


class Results:
    """An open results file; `made` has the line of each row of this batch that has its video."""

    def __init__(
        self, file: IO[str], batch: str, columns: list[str], lines: list[dict[str, str]]
    ) -> None:
        """Writes the lines to keep: those of other batches, and of rows that are done."""
        self.batch = batch
        self.made = {
            line["id"].removeprefix("'"): line
            for line in lines
            if line[BATCH] == batch and line["status"] == DONE
        }
        self._file = file
        self._writer = csv.DictWriter(file, columns)
        self._writer.writeheader()
        kept = {id(line) for line in self.made.values()}  # of a row that was made again the last
        self._writer.writerows(line for line in lines if line[BATCH] != batch or id(line) in kept)
        self._file.flush()

    @property
    def done(self) -> Set[str]:
        """Ids of the rows that have their video."""
        return self.made.keys()

    def add(self, outcome: Outcome) -> None:
        """Appends a line, on disk before the next row ends."""
        cells = {name: _as_text(cell) for name, cell in asdict(outcome).items()}
        line = {**cells, BATCH: self.batch}
        self._writer.writerow(line)
        self._file.flush()
        if outcome.status == DONE:
            self.made[outcome.id] = line


@contextmanager
def open_results(path: Path, *, batch: str) -> Iterator[Results]:
    """The results at `path`, without the lines of this batch's rows that are tried again.

    Raises InvalidInput for a file with other content, which is left unchanged, and while another
    process writes to it.
    """
    with _open_locked(path, "a+") as file:
        columns, lines = _read_lines(path, file)
        # Replaced as a whole: nothing is lost if the process is killed, or the disk is full.
        part = path.with_name(f".{path.name}.part")
        with _open_locked(part, "w") as kept:
            results = Results(kept, batch, columns, lines)
            shutil.copymode(path, part)
            part.replace(path)
            yield results


def _open_locked(path: Path, mode: str) -> IO[str]:
    """The file, opened in a mode of `open`, under an exclusive lock until it is closed."""
    try:
        file = path.open(mode, newline="", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(
            f"output: got {str(path)!r}; another `farm batch` is writing to it; wait until it ends"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"output: got {str(path)!r}; it cannot be written ({error.strerror})"
        ) from error
    return file


def _read_lines(path: Path, file: IO[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the lines of earlier runs, without a last line that was cut off.

    A spreadsheet may have saved them, with another delimiter or with columns of its user's.
    """
    file.seek(0)
    try:
        table = read_table(line for line in file if line.endswith(("\n", "\r")))
        columns = table.columns or COLUMNS
        missing = [column for column in COLUMNS if column not in columns]
        if ADDED.issuperset(missing) and len(set(columns)) == len(columns):
            return [*columns, *missing], list(_complete_lines(table))
    except (UnicodeDecodeError, csv.Error):  # not even a table
        pass
    raise InvalidInput(
        f"output: got {str(path)!r}, which has other content; allowed: a new file, or earlier "
        "results in UTF-8 (Excel saves them as 'CSV UTF-8')"
    )


def _complete_lines(table: Table) -> Iterator[dict[str, str]]:
    for _, cells in table.lines:
        if isinstance(cells, csv.Error):
            raise cells
        if len(cells) == len(table.columns):
            yield dict(zip(table.columns, cells, strict=True))
