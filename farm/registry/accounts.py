"""What each caller has of the farm, and the quotas that bound it.

Jobs that have not ended, their remaining GPU seconds and the stored bytes are indices that change
atomically with the jobs, so a crash leaks nothing. A caller's account changes with every job that
is entered: of two jobs at once, the second is checked again with the first one counted. Uses of a
GPU only add up, so none of them waits for another, or for a job that is entered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Self

from pydantic import BaseModel, ConfigDict

from farm.errors import QuotaExceeded
from farm.estimate import work
from farm.registry.backend import Add, Effect, Increment, Remove
from farm.registry.formats import dump, load
from farm.registry.keys import (
    account_key,
    ended_of,
    gpu_s_of,
    jobs_of,
    remaining_of,
    results_of,
    uploads_of,
)
from farm.registry.pace import read_pace
from farm.registry.records import Change, RecordStore
from farm.settings import Settings

DAY_S = 86_400
MAX_MEMBERS = 100_000
"""Members of an index that are added up."""


@dataclass(frozen=True)
class Quota:
    """What each caller may have; None = any number."""

    live_jobs: int | None = None
    gpu_s_per_day: float | None = None
    stored_bytes: int | None = None
    uploads_kept_s: float | None = None
    """Seconds after its last use for which an upload counts."""
    own: frozenset[str] = frozenset()
    """Names of the limits that are this caller's alone, and no settings."""

    def setting(self, name: str) -> str:
        """How a message names the setting of a limit: not at all if the limit is the caller's."""
        return "" if name in self.own else f" (FARM_MAX_{name.upper()})"

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            live_jobs=settings.max_live_jobs,
            gpu_s_per_day=settings.max_gpu_s_per_day,
            stored_bytes=settings.max_stored_bytes,
            uploads_kept_s=settings.keep_shared_s,
        )


UNLIMITED = Quota()


@dataclass(frozen=True)
class Demand:
    """What a job adds to what its caller has."""

    gpu_s: float = 0.0
    """Estimated seconds of one reference card, at most."""
    uploads: Mapping[str, int] = field(default_factory=dict)
    """Bytes of its uploads by key."""


NO_DEMAND = Demand()


class Account(BaseModel):
    """A caller's record, which each job that is entered changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    last_job_id: str = ""

    @property
    def text(self) -> str:
        return dump(self)

    def with_job(self, job_id: str) -> Self:
        """The record after a job was entered; job ids never recur, so no text does."""
        return self.model_copy(update={"last_job_id": job_id})


class AccountRegistry:
    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._backend = records.backend

    def change_of(self, caller: str, rule: Callable[[Account], Account | None]) -> Change[Account]:
        """A change of an account."""
        return Change(
            account_key(caller), parse=lambda text: parse_account(caller, text), rule=rule
        )

    def check(self, caller: str, demand: Demand, quota: Quota) -> None:
        """Raises QuotaExceeded if a job would exceed its caller's quota."""
        self._check_live_jobs(caller, quota)
        self._check_gpu_s(caller, demand.gpu_s, quota)
        self._check_stored_bytes(caller, demand, quota)

    def upload_effects(self, caller: str, demand: Demand, quota: Quota) -> Iterator[Effect]:
        """The writes that count the uploads of a job, and those that drop expired ones."""
        if not demand.uploads:
            return
        now = self._backend.now()
        index = uploads_of(caller)
        if quota.uploads_kept_s is not None:
            for member in self._backend.members_below(index, now - quota.uploads_kept_s):
                yield Remove(index, member)
        for member in map(_upload_member, demand.uploads.items()):
            yield Remove(index, member)
            yield Add(index, member, now)

    def has_upload(self, caller: str, key: str, size: int) -> bool:
        """Whether an upload, given by its key and its bytes, is counted as a caller's."""
        return self._backend.score(uploads_of(caller), _upload_member((key, size))) is not None

    def withdraw(self, caller: str, key: str) -> None:
        """No longer counts an upload as a caller's."""
        for member in self._backend.members_below(uploads_of(caller), inf):
            if _upload_key(member) == key:
                self._backend.remove_member(uploads_of(caller), member)

    def charge(self, caller: str, gpu_s: float) -> None:
        """Adds GPU seconds to what a caller has used today."""
        self._backend.swap([], [Increment(gpu_s_of(caller), self._today(), gpu_s)])

    def used_gpu_s(self, caller: str) -> float:
        """GPU seconds that a caller has used today."""
        return self._backend.score(gpu_s_of(caller), self._today()) or 0.0

    def close_if_unused(self, caller: str) -> None:
        """Removes the account of a caller who has no jobs left and used no GPU today."""
        if self.used_gpu_s(caller) or self._backend.size(jobs_of(caller)):
            return
        for index in (uploads_of(caller), ended_of(caller), gpu_s_of(caller)):
            for member in self._backend.members_below(index, inf):
                self._backend.remove_member(index, member)
        self._backend.delete(account_key(caller))

    def _check_live_jobs(self, caller: str, quota: Quota) -> None:
        limit = quota.live_jobs
        if limit is None:
            return
        live = self._backend.size(remaining_of(caller))
        if live >= limit:
            raise QuotaExceeded(
                f"caller {caller}: {live:,} jobs have not ended; allowed: {limit:,}"
                f"{quota.setting('live_jobs')}; try again when one of them has ended"
            )

    def _check_gpu_s(self, caller: str, gpu_s: float, quota: Quota) -> None:
        limit = quota.gpu_s_per_day
        if limit is None:
            return
        now = self._backend.now()
        pace = read_pace(self._backend)
        used = self.used_gpu_s(caller)
        remaining = pace.gpu_ratio * sum(self._scores(remaining_of(caller)))
        needed = pace.gpu_ratio * gpu_s
        if used + remaining + needed <= limit:
            return
        fits_alone = needed <= limit
        advice = "make it shorter, or limit it by max_frame_num if its voice is of unknown length"
        if fits_alone:
            advice = "try again when others have ended, or after 00:00 UTC"
        used_work = work(f"{used:,.0f}", "seconds", on_cpu=pace.on_cpu)
        raise QuotaExceeded(
            f"caller {caller}: {used_work} are used today, {remaining:,.0f} estimated "
            f"for jobs that have not ended, {needed:,.0f} for this one; allowed: {limit:,.0f} a "
            f"day{quota.setting('gpu_s_per_day')}; {advice}",
            retryable=fits_alone,
            retry_after_s=DAY_S - now % DAY_S if fits_alone else None,
        )

    def _check_stored_bytes(self, caller: str, demand: Demand, quota: Quota) -> None:
        if quota.stored_bytes is None:
            return
        counted_from = -inf
        if quota.uploads_kept_s is not None:
            counted_from = self._backend.now() - quota.uploads_kept_s
        found = self._backend.members_between(uploads_of(caller), counted_from, inf, MAX_MEMBERS)
        uploads = {member for member, _ in found}
        uploads.update(map(_upload_member, demand.uploads.items()))
        size = sum(map(_upload_bytes, uploads)) + sum(self._scores(results_of(caller)))
        if size > quota.stored_bytes:
            raise QuotaExceeded(
                f"caller {caller}: {size:,.0f} bytes with the uploads of this job; allowed: "
                f"{quota.stored_bytes:,} (FARM_MAX_STORED_BYTES); try again when uploads or jobs "
                "have expired (FARM_KEEP_SHARED_S, FARM_KEEP_JOBS_S)"
            )

    def _today(self) -> str:
        return datetime.fromtimestamp(self._backend.now(), UTC).date().isoformat()

    def _scores(self, index: str) -> Iterator[float]:
        found = self._backend.members_between(index, -1, inf, MAX_MEMBERS)
        return (score for _, score in found)


def parse_account(caller: str, text: str | None) -> Account:
    if text is None:
        return Account()
    return load(text, Account, name=f"caller {caller}: the account")


def _upload_member(upload: tuple[str, int]) -> str:
    key, size = upload
    return f"{key} {size}"


def _upload_key(member: str) -> str:
    return member.rpartition(" ")[0]


def _upload_bytes(member: str) -> int:
    return int(member.rpartition(" ")[2])
