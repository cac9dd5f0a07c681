"""A batch in one serverless worker: its requests one after the other, each with a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from farm.errors import InvalidInput
from farm.job.files import batch_items
from farm.runpod.failure import describe
from farm.runpod.whole_job import Answer, WholeJob

ID = "id"


@dataclass
class Batch:
    """The items of one payload; `open_job` begins the job of one."""

    items: list[dict[str, Any] | InvalidInput]
    open_job: Callable[[], WholeJob]
    current: tuple[int, str, WholeJob] | None = None
    done: list[Answer] = field(default_factory=list)

    def run(self, job_id: str) -> Answer:
        """The contract's result of a batch; raises Interrupted.

        A failed item stops no other. With the time up, the rest say so.
        """
        for index, name, item in self._named():
            self.done.append({ID: name, "result": self._run_item(index, name, item)})
        good = sum(each["result"]["status"] == "success" for each in self.done)
        status = "success" if good == len(self.done) else "partial" if good else "error"
        return {"job_id": job_id, "status": status, "items": self.done}

    def newest(self) -> Answer | None:
        """The last stage of the item that is running, with the percentage of the whole batch."""
        if self.current is None:
            return None
        index, name, job = self.current
        shown = job.newest()
        if shown is None:
            return None
        pct = round((100 * index + shown["pct"]) / len(self.items), 1)
        return {**shown, "pct": pct, "item_id": name, "item_index": index}

    def _run_item(self, index: int, name: str, item: dict[str, Any] | InvalidInput) -> Answer:
        if isinstance(item, InvalidInput):
            return {"job_id": None, "status": "error", "error": describe(item, at_stage="queued")}
        job = self.open_job()
        self.current = (index, name, job)
        return job.run({field: value for field, value in item.items() if field != ID})

    def _named(self) -> Iterator[tuple[int, str, dict[str, Any] | InvalidInput]]:
        """Each item with its index and its id, or the error in that."""
        taken: set[str] = set()
        for index, item in enumerate(self.items):
            name = f"item-{index}"
            if isinstance(item, dict):
                given = item[ID]
                if not isinstance(given, str) or given in taken:
                    item = InvalidInput(
                        f"batch.{index}.id: got {given!r}; allowed: a text, unlike other ids"
                    )
                else:
                    name = given
            taken.add(name)
            yield index, name, item


def open_batch(fields: dict[str, Any], open_job: Callable[[], WholeJob]) -> Batch:
    """The batch of a payload; InvalidInput if it is none, or empty."""
    items = list(batch_items(fields))
    if not items:
        raise InvalidInput("batch: got an empty list; allowed: at least one request")
    return Batch(items, open_job)
