"""What goes wrong between an endpoint and those who call it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What the next requests of one kind meet.

    With a `status` they are answered so, with `body`; 0 breaks the connection. With `takes_effect`
    they have their effect all the same. With `held` they have it as soon as the event is set.
    """

    status: int | None = None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    takes_effect: bool = False
    job_id: str | None = None
    """The only job whose requests meet it."""
    held: threading.Event | None = None


@dataclass
class Faults:
    """The faults of each operation, such as `run` or `job-done`, and how often each was called.

    Progress is an operation of its own, although the SDK posts it to job-done.
    """

    waiting: dict[str, list[Fault]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, operation: str, fault: Fault) -> None:
        self.waiting.setdefault(operation, []).append(fault)

    def clear(self, *operations: str) -> None:
        """Ends the faults of some operations, by default of all."""
        for operation in operations or tuple(self.waiting):
            self.waiting.pop(operation, None)

    def next(self, operation: str, job_id: str | None) -> Fault | None:
        """The fault that this request meets, one of its times used up."""
        self.calls[operation] += 1
        for fault in self.waiting.get(operation, []):
            if fault.times > 0 and fault.job_id in (None, job_id):
                fault.times -= 1
                return fault
        return None
