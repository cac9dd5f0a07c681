"""The way of a job: which step comes after which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

StepKind = Literal["download", "embed", "generate", "mux", "notify"]


@dataclass(frozen=True)
class Step:
    """One product to make: at `generate` there is one for each chunk."""

    kind: StepKind
    chunk: int = 0

    @property
    def id(self) -> str:
        """The name of what the step makes, for example `mux` or `generate-0007`."""
        return f"generate-{self.chunk:04d}" if self.kind == "generate" else self.kind

    @classmethod
    def parse(cls, step_id: str) -> Self:
        """The step that makes a product."""
        kind, _, chunk = step_id.partition("-")
        return cls(kind, int(chunk or 0))  # type: ignore[arg-type]  # products are named by `product` alone


FIRST, LAST = Step("download"), Step("mux")
NOTIFY = Step("notify")
"""What is done for a job that has ended, however it did, if a webhook waits for that."""


def following(step: Step, *, chunks: int) -> Step | None:
    """What comes after a step of a job of so many chunks (known once its speech is embedded); None at the end."""
    match step:
        case Step("download"):
            return Step("embed")
        case Step("embed"):
            return Step("generate", 0)
        case Step("generate", chunk) if chunk + 1 < chunks:
            return Step("generate", chunk + 1)
        case Step("generate"):
            return LAST
    return None
