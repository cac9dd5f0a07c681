"""What a command's exit status says."""

from __future__ import annotations

from farm.errors import FarmError, FarmUnreachable, InvalidInput

FINE, FAILED, WRONG, UNREACHABLE, BROKEN_OFF = 0, 1, 2, 3, 130

EXIT_STATUS = {
    FINE: "success",
    FAILED: "a job or a batch row ended without a video, or a check found an error",
    WRONG: "invalid input: an option, a field, a file or a setting",
    UNREACHABLE: "the farm is unreachable",
    BROKEN_OFF: "interrupted by Ctrl-C; submitted jobs continue",
}

STATUS_OF: dict[type[FarmError], int] = {InvalidInput: WRONG, FarmUnreachable: UNREACHABLE}
"""The exit status of an error; all others are FAILED."""
