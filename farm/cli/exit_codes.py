"""The exit statuses of every command."""

from __future__ import annotations

from farm.errors import FarmError, FarmUnreachable, InvalidInput, QuotaExceeded

SUCCESS = 0
FAILED = 1
INVALID_INPUT = 2
UNREACHABLE = 3
QUOTA_EXCEEDED = 4
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

EXIT_STATUS = {
    SUCCESS: "success",
    FAILED: "a job or a batch row ended without a video, or a check found an error",
    INVALID_INPUT: "invalid input: an option, a field, a file or a setting",
    UNREACHABLE: "the farm is unreachable",
    QUOTA_EXCEEDED: "the caller's quota is used up; try again later",
    INTERRUPTED: "interrupted by Ctrl-C; submitted jobs continue",
}

STATUS_OF_ERROR: dict[type[FarmError], int] = {
    InvalidInput: INVALID_INPUT,
    FarmUnreachable: UNREACHABLE,
    QuotaExceeded: QUOTA_EXCEEDED,
}
"""All other errors are FAILED."""


def exit_status(error: FarmError) -> int:
    """The exit status of a command that an error ended."""
    kinds = (status for kind, status in STATUS_OF_ERROR.items() if isinstance(error, kind))
    return next(kinds, FAILED)
