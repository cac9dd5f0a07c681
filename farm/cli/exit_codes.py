"""What a command's exit status says."""

from __future__ import annotations

from farm.errors import FarmError, FarmUnreachable, InvalidInput

FINE, FAILED, WRONG, UNREACHABLE, BROKEN_OFF = 0, 1, 2, 3, 130

EXIT_STATUS = {
    FINE: "all is well",
    FAILED: "a job ended without a video, a batch has rows without one, or something is not as it should be",
    WRONG: "the input is wrong: an option, a field, a file, a setting",
    UNREACHABLE: "no farm answers",
    BROKEN_OFF: "broken off by Ctrl-C; what was handed in goes on",
}

STATUS_OF: dict[type[FarmError], int] = {InvalidInput: WRONG, FarmUnreachable: UNREACHABLE}
"""The exit status of an error; all others are FAILED."""
