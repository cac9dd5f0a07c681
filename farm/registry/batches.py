"""Batches: several jobs of a caller that were submitted, and are followed, under one id."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from farm.caller import CallerName
from farm.job import Failure
from farm.registry.backend import Add
from farm.registry.formats import dump, load
from farm.registry.keys import BATCHES, batch_key
from farm.registry.records import RecordStore


class BatchItem(BaseModel):
    """One request of a batch: the job that it became, or why it became none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    job_id: str | None = None
    error: Failure | None = None


class Batch(BaseModel):
    """A batch, which does not change: how far it is, its jobs say."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    batch_id: str
    caller: CallerName
    created_at: float
    items: tuple[BatchItem, ...]

    @property
    def job_ids(self) -> list[str]:
        return [item.job_id for item in self.items if item.job_id is not None]


class BatchRegistry:
    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._backend = records.backend

    def add(self, batch: Batch) -> None:
        """Enters a batch, whose jobs were submitted."""
        effects = [Add(BATCHES, batch.batch_id, batch.created_at)]
        self._backend.compare_and_set(batch_key(batch.batch_id), None, dump(batch), effects)

    def read(self, batch_id: str) -> Batch | None:
        """A batch by its id; None if there is none."""
        (text,) = self._backend.get_all([batch_key(batch_id)])
        return None if text is None else load(text, Batch, name=f"batch {batch_id}")

    def older_than(self, seconds: float) -> list[str]:
        """Ids of the batches that were submitted before that many seconds."""
        return self._backend.members_below(BATCHES, self._backend.now() - seconds)

    def forget(self, batch_id: str) -> None:
        """Removes a batch; not its jobs."""
        self._backend.delete(batch_key(batch_id))
        self._backend.remove_member(BATCHES, batch_id)
