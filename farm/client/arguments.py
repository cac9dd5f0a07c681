"""What callers of a farm give: a request in any of its forms, limits, a state, a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.util import find_spec
from typing import Any, get_args

from farm.client.checks import check_sources
from farm.client.uploads import LocalFiles, plain_sources
from farm.errors import InvalidInput, all_mistakes, did_you_mean, how_to_install
from farm.job import JobRequest, State, TimeLimits
from farm.job.time_limits import NO_LIMITS
from farm.settings import Settings


def parse_request(
    request: JobRequest | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
    settings: Settings,
    local_files: LocalFiles = True,
) -> JobRequest:
    """The request that is given as one, as an object, by its fields, or by a part of each.

    Raises InvalidInput with what is wrong in it, and in its files.
    """
    given = request.model_dump(mode="json") if isinstance(request, JobRequest) else request
    plain = plain_sources({**(given or {}), **fields})
    with all_mistakes() as check:
        parsed: JobRequest = check(JobRequest.parse, plain)
        if parsed is None:
            check(check_sources, plain, settings, local_files)
    return parsed


def check_inline(request: JobRequest, limits: TimeLimits) -> None:
    """Raises InvalidInput for what only a farm with workers does, or only their packages."""
    if find_spec("torch") is None:
        raise InvalidInput(f"inline: torch is not installed; {how_to_install('worker')}")
    if limits != NO_LIMITS:
        raise InvalidInput("limits: not supported for inline jobs; allowed: none")
    if request.webhook:
        raise InvalidInput(
            "webhook: not supported for inline jobs, which have no process left to retry the "
            "call; allowed: null"
        )


def check_state(state: State | None) -> None:
    """Raises InvalidInput for a state that no job is ever in."""
    states = get_args(State)
    if state is not None and state not in states:
        raise InvalidInput(
            f"state: got {state!r}; allowed: {', '.join(states)}{did_you_mean(state, states)}"
        )


def timestamp(since: float | datetime) -> float:
    """Seconds since 1970."""
    return since.timestamp() if isinstance(since, datetime) else since
