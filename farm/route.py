"""The steps of a job: one table of their specs, and which step comes after which.

A new kind of step needs a row here, its output in `farm/registry/outputs.py`, its function in
`farm/steps`, and a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

from farm.errors import (
    DownloadFailed,
    EmbeddingFailed,
    FarmError,
    FFmpegFailed,
    GenerationFailed,
)

Queue = Literal["cpu", "gpu", "downloads", "gpu-local", "bridge"]
"""`gpu-local` has the chunks of jobs that may not leave the farm, `bridge` those that run outside
already, for a bridge that follows them.
"""
QUEUES: tuple[Queue, ...] = get_args(Queue)

WorkerKind = Literal["cpu", "gpu", "downloads", "bridge"]
CONSUMED: dict[WorkerKind, tuple[Queue, ...]] = {
    "cpu": ("cpu",),
    "gpu": ("gpu-local", "gpu"),
    "downloads": ("downloads",),
    "bridge": ("bridge",),  # and gpu, as long as chunks may overflow
}
"""The queues of each kind of worker."""

StepKind = Literal["download", "embed", "generate", "mux", "notify"]


@dataclass(frozen=True)
class StepSpec:
    """How steps of one kind are run."""

    queue: Queue
    """Of `download` this is the queue of a job without URLs (farm.queue.dispatch)."""
    failure: type[FarmError]
    """The error that an unforeseen exception becomes."""
    first_stage: str | None = None
    """The stage of the job that begins with each attempt at the step."""
    per_chunk: bool = False
    """One step for each chunk of the video instead of one for the job."""
    runs_after_end: bool = False
    """Runs for a job that has ended, cannot fail it, and decides by itself when to give up."""


STEP_SPECS: dict[StepKind, StepSpec] = {
    "download": StepSpec("cpu", DownloadFailed, "validation_started"),
    "embed": StepSpec("cpu", EmbeddingFailed, "embeddings_started"),
    "generate": StepSpec("gpu", GenerationFailed, per_chunk=True),
    "mux": StepSpec("cpu", FFmpegFailed, "muxing_started"),
    "notify": StepSpec("cpu", FarmError, runs_after_end=True),
}
"""Every kind of step, in the order of a job."""

STEP_KINDS = tuple(STEP_SPECS)


@dataclass(frozen=True)
class Step:
    """One unit of work of a job: a kind and, for kinds that run per chunk, a chunk."""

    kind: StepKind
    chunk: int = 0

    @property
    def id(self) -> str:
        """The name of the step within its job, for example `mux` or `generate-0007`."""
        return f"{self.kind}-{self.chunk:04d}" if self.spec.per_chunk else self.kind

    @property
    def spec(self) -> StepSpec:
        return STEP_SPECS[self.kind]

    @property
    def position(self) -> tuple[int, int]:
        """Where the step is in the order of a job."""
        return STEP_KINDS.index(self.kind), self.chunk

    @property
    def reads(self) -> list[Step]:
        """Earlier steps whose outputs it may read, as far as they are known in advance."""
        match self.kind:
            case "embed":
                return [DOWNLOAD]
            case "generate":
                chunks = sorted({0, self.chunk - 1}) if self.chunk else []
                return [DOWNLOAD, EMBED, *(Step("generate", chunk) for chunk in chunks)]
        return []

    @classmethod
    def parse(cls, step_id: str) -> Self:
        """The step of an id; ValueError for anything that `id` never returns."""
        kind, _, chunk = step_id.partition("-")
        if kind in STEP_SPECS:
            step = cls(kind, int(chunk) if chunk.isdecimal() else 0)
            if step.id == step_id:
                return step
        allowed = ", ".join(cls(kind).id for kind in STEP_SPECS)
        raise ValueError(f"step: got {step_id!r}; allowed: {allowed}")


DOWNLOAD = Step("download")
EMBED = Step("embed")
MUX = Step("mux")
NOTIFY = Step("notify")
"""Reports the end of a job to its webhook."""


def next_step(step: Step, *, chunks: int | None) -> Step | None:
    """The step after a step; None after the last one.

    `chunks` is the number of chunks of the job, known once its speech is embedded. LookupError if
    it is needed and unknown.
    """
    match step.kind:
        case "download":
            return EMBED
        case "embed":
            return Step("generate", 0)
        case "generate":
            if chunks is None:
                raise LookupError(f"what follows {step.id} is unknown without the number of chunks")
            return Step("generate", step.chunk + 1) if step.chunk + 1 < chunks else MUX
    return None


def steps_of_job(chunks: int | None) -> list[Step]:
    """Every step of a job in order, but for the webhook's.

    As long as the number of chunks is unknown, these are the steps before the first chunk.
    """
    steps = [DOWNLOAD, EMBED]
    if chunks is not None:
        steps += [Step("generate", chunk) for chunk in range(chunks)]
        steps.append(MUX)
    return steps
