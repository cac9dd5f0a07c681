"""One job in memory, the context in which its steps run, and the world around them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from farm.engine.context import Context
from farm.errors import UploadFailed
from farm.job import Failure, JobStatus
from farm.registry import Lease, Registry
from farm.registry.outputs import Committed
from farm.route import Step
from farm.settings import Settings
from farm.store import keys
from tests.support.backends import ClockBackend, HookedStore
from tests.support.jobs import resolved
from tests.support.steps import acquire, complete, run_step


@dataclass
class Harness:
    """The job `a`, whose face and voice are uploaded."""

    ctx: Context
    clock: ClockBackend
    store: HookedStore
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def registry(self) -> Registry:
        return self.ctx.registry

    @property
    def status(self) -> JobStatus:
        return self.registry.jobs.status("a")

    @property
    def failure(self) -> Failure:
        assert self.status.result is not None
        assert self.status.result.error is not None
        return self.status.result.error

    def with_settings(self, **settings: Any) -> Harness:
        """The same job for a worker with other settings."""
        changed = self.ctx.settings.model_copy(update=settings)
        return replace(self, ctx=replace(self.ctx, settings=changed))

    def enter(self, **fields: Any) -> None:
        self.registry.entries.add(
            "a", resolved({"model": self.ctx.settings.presets[0], **self.fields, **fields})
        )

    def run(self, step: Step, **hooks: Any) -> Step | None:
        return run_step(self.ctx, "a", step, **hooks)

    def committed(self, step: Step) -> Committed | None:
        return self.registry.steps.committed("a", step.id)

    def complete(self, step: Step, *output: Any, **committed: Any) -> Lease:
        """Commits the step as another worker would."""
        return complete(self.registry, step.id, *output, **committed)

    def lose_worker(self, step: Step, *, lease_s: float = 60) -> None:
        """Begins an attempt at the step whose worker is then killed, and lets its lease expire."""
        acquire(self.registry, step.id, lease_s=lease_s)
        self.clock.advance(lease_s + 1)


def open_harness(home: Path, face: Path, voice: Path) -> Harness:
    clock = ClockBackend()
    store = HookedStore()
    face_key = keys.upload(face)
    voice_key = keys.upload(voice)
    store.put(face_key, face)
    store.put(voice_key, voice)
    fields = {
        "prompt": "a face talks",
        "cond_video": keys.SCHEME + face_key,
        "cond_audio": {"person1": keys.SCHEME + voice_key},
    }
    return Harness(Context(Settings(home=home), store, Registry(clock)), clock, store, fields)


def refuse() -> None:
    """What a store without room does."""
    raise UploadFailed("the store could not take it: disk full")
