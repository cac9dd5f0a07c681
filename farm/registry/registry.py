"""The registry: the source of truth about every job and step of a farm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.caller import LOCAL
from farm.errors import Cancelled, InvalidInput
from farm.job import Event, JobStatus
from farm.registry.accounts import AccountRegistry
from farm.registry.api_keys import KeyRegistry
from farm.registry.backend import KeepTrying, RegistryBackend, give_up
from farm.registry.batches import BatchRegistry
from farm.registry.deadlines import DeadlineRegistry
from farm.registry.entries import EntryRegistry
from farm.registry.hosts import HostRegistry
from farm.registry.identity import IdentityRegistry
from farm.registry.jobs import JobRegistry
from farm.registry.keys import job_key, request_key, step_key
from farm.registry.outputs import Committed, MuxOutput
from farm.registry.parts import PartRegistry
from farm.registry.records import Change, RecordStore
from farm.registry.remote import RemoteRegistry
from farm.registry.spending import SpendingRegistry
from farm.registry.status_record import StatusRecord, parse_status
from farm.registry.step_record import Lease, StepRecord
from farm.registry.steps import NO_UPDATE, EstimateUpdate, StepRegistry
from farm.registry.webhooks import WebhookRegistry
from farm.registry.workers import WorkerRegistry
from farm.settings import REDIS, Settings


@dataclass(frozen=True)
class Commit:
    """What became of a commit."""

    dispatches: bool
    """The caller must send the message of the next step."""


class Registry:
    """All that a farm knows, over one backend of texts."""

    def __init__(self, backend: RegistryBackend) -> None:
        self.backend = backend
        self._records = RecordStore(backend)
        self.accounts = AccountRegistry(self._records)
        self.jobs = JobRegistry(self._records)
        self.entries = EntryRegistry(self._records, self.accounts, self.jobs)
        self.steps = StepRegistry(self._records)
        self.webhooks = WebhookRegistry(self._records)
        self.workers = WorkerRegistry(backend)
        self.identity = IdentityRegistry(backend)
        self.hosts = HostRegistry(backend)
        self.remote = RemoteRegistry(backend)
        self.spending = SpendingRegistry(self._records)
        self.deadlines = DeadlineRegistry(self._records)
        self.parts = PartRegistry(backend)
        self.keys = KeyRegistry(self._records)
        self.batches = BatchRegistry(self._records)

    def now(self) -> float:
        """Seconds since 1970 on the one clock of the farm, which is never set back."""
        return self.backend.now()

    def wall_time(self) -> float:
        """Seconds since 1970 on the clock of the backend's machine, for others than the farm."""
        return self.backend.wall_time()

    def commit(
        self,
        lease: Lease,
        committed: Committed,
        estimate: EstimateUpdate = NO_UPDATE,
        *,
        caller: str = LOCAL,
        events: Sequence[Event] = (),
        next_step_id: str | None = None,
    ) -> Commit | None:
        """Makes the output of an attempt the step's output; None if the attempt is superseded.

        With it the job, which is `caller`'s, advances by events, and ends if the output is a
        finished video; Cancelled if it has ended already. The dispatch of the next step is claimed
        with it too.
        """
        job_id = lease.job_id
        output = self.steps.commit_change(lease, committed, estimate, caller=caller)
        status: list[Change[StatusRecord]] = []
        if isinstance(committed.output, MuxOutput):
            result = committed.output.result
            status = [self.jobs.end_change(job_id, "success", result, events)]
        elif events:
            status = [self.jobs.report_change(*events)]
        dispatch = [self.steps.dispatch_change(job_id, next_step_id)] if next_step_id else []
        changed = self._records.change_all(output, *status, optional=dispatch)
        if not changed and self.steps.last_record(job_id, lease.step_id).is_held_by(lease):
            raise Cancelled(f"job {job_id} has ended, so {lease.step_id} is not committed")
        return Commit(dispatches=any(each.key in changed for each in dispatch)) if changed else None

    def snapshot(
        self, job_id: str, step_ids: Sequence[str]
    ) -> tuple[JobStatus, list[Committed | None]]:
        """The status of a job and the outputs of steps at one moment.

        Raises InvalidInput if there is no such job.
        """
        # The request is needed next; reading it along costs less than asking for it.
        keys = [job_key(job_id), request_key(job_id)]
        keys += [step_key(job_id, step_id) for step_id in step_ids]
        status, _, *texts = self._records.read(*keys)
        records = [
            StepRecord.parse(text, job_id=job_id, step_id=step_id)
            for step_id, text in zip(step_ids, texts, strict=True)
        ]
        return parse_status(job_id, status), [record.committed for record in records]


def farm_registry(settings: Settings, *, keep_trying: KeepTrying = give_up) -> Registry:
    """The registry of the farm that the settings name; see `open_registry`."""
    return open_registry(
        settings.registry_address,
        prefix=settings.key_prefix,
        ca=settings.broker_ca,
        keep_trying=keep_trying,
        name="registry" if settings.has_own_registry else "broker",
    )


def open_registry(
    url: str,
    *,
    prefix: str = "farm:",
    ca: Path | None = None,
    keep_trying: KeepTrying = give_up,
    name: str = "broker",
) -> Registry:
    """The registry at a redis:// or rediss:// URL, or memory:// for this process alone.

    `prefix` is what its keys in Redis begin with, `ca` a file with the CA certificates of its
    server, `name` what errors call that.

    While Redis is down its calls raise FarmUnreachable, or wait for as long as `keep_trying`
    returns True.
    """
    if url == "memory://":
        from farm.registry.memory import MemoryBackend

        return Registry(MemoryBackend())
    if not url.startswith(REDIS):
        raise unknown_broker(url, "redis://, rediss:// or memory://")
    from farm.registry.redis import RedisBackend

    return Registry(RedisBackend(url, prefix=prefix, ca=ca, keep_trying=keep_trying, name=name))


def unknown_broker(url: str, allowed: str) -> InvalidInput:
    """The error for the URL of a broker that is of another kind than the allowed ones."""
    scheme, separator, _ = url.partition("://")  # behind it there may be a password
    got = f"{scheme}://" if separator else "no URL"
    return InvalidInput(f"FARM_BROKER_URL: got {got}; allowed: {allowed}")
