"""The list of a tenant's jobs, in pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import dropwhile
from math import inf
from typing import Self, get_args

from starlette.datastructures import QueryParams

from farm.gateway.refusal import refuse
from farm.gateway.v1.answers import JobPage, JobSummary
from farm.gateway.v1.signed import Signer
from farm.job import JobStatus, State
from farm.registry import Registry

DEFAULT_JOBS, MAX_JOBS = 20, 100
MAX_READ = 1_000
"""Jobs that one request reads, when few of them have the wanted state."""

CURSOR = re.compile(r"(\d{1,11}(?:\.\d{1,9})?)-([0-9a-f]{32})")


@dataclass(frozen=True)
class Cursor:
    """The job after which a page begins. A job that is submitted or removed moves none."""

    created_at: float = inf
    job_id: str = ""

    @classmethod
    def of(cls, status: JobStatus) -> Self:
        return cls(status.created_at, status.job_id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Refusal 422."""
        found = CURSOR.fullmatch(text)
        if found is None:
            raise refuse(422, f"cursor: got {text[:80]!r}; allowed: next_cursor of another page")
        return cls(float(found[1]), found[2])

    def is_behind(self, status: JobStatus) -> bool:
        """Whether a job is on an earlier page."""
        return (status.created_at, status.job_id) >= (self.created_at, self.job_id)

    def __str__(self) -> str:
        return f"{self.created_at!r}-{self.job_id}"


@dataclass(frozen=True)
class Query:
    """Which jobs a page has."""

    limit: int = DEFAULT_JOBS
    state: str | None = None
    cursor: Cursor = Cursor()

    @classmethod
    def parse(cls, given: QueryParams) -> Self:
        """Raises Refusal 422."""
        check_names(given, "limit", "state", "cursor")
        state = given.get("state")
        if state is not None and state not in get_args(State):
            states = ", ".join(get_args(State))
            raise refuse(422, f"state: got {state[:80]!r}; allowed: {states}")
        cursor = Cursor.parse(given["cursor"]) if "cursor" in given else Cursor()
        return cls(_limit(given.get("limit", str(DEFAULT_JOBS))), state, cursor)


def check_names(given: QueryParams, *allowed: str) -> None:
    """Raises Refusal 422 for a parameter that a call does not know, or that is given twice."""
    names = [name for name, _ in given.multi_items()]
    for name in names:
        if name not in allowed:
            raise refuse(422, f"query: got {name[:80]!r}; allowed: {', '.join(allowed)}")
        if names.count(name) > 1:
            raise refuse(422, f"{name}: it is given twice; allowed: once")


def _limit(text: str) -> int:
    if not (re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MAX_JOBS):
        raise refuse(422, f"limit: got {text[:80]!r}; allowed: 1 to {MAX_JOBS}")
    return int(text)


def page(registry: Registry, caller: str, query: Query) -> JobPage:
    """A page of a caller's jobs; a short one is not always the last."""
    signer = Signer.of(registry)
    found: list[JobSummary] = []
    last = query.cursor
    newest = registry.jobs.newest(caller, until=query.cursor.created_at)
    for number, status in enumerate(dropwhile(query.cursor.is_behind, newest)):
        if len(found) == query.limit or number == MAX_READ:
            return JobPage(jobs=tuple(found), next_cursor=str(last))
        last = Cursor.of(status)
        if query.state in (None, status.state):
            found.append(JobSummary.of(status, signer))
    return JobPage(jobs=tuple(found), next_cursor=None)
