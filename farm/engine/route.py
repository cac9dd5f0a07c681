"""The way of a job: which step comes after which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

Station = Literal["download", "embed", "generate", "mux", "notify"]


@dataclass(frozen=True)
class Step:
    """One product to make: at `generate` there is one for each chunk."""

    station: Station
    chunk: int = 0

    @property
    def product(self) -> str:
        """The name of what the step makes, for example `mux` or `generate-0007`."""
        return f"generate-{self.chunk:04d}" if self.station == "generate" else self.station

    @classmethod
    def making(cls, product: str) -> Self:
        """The step that makes a product."""
        station, _, chunk = product.partition("-")
        return cls(station, int(chunk or 0))  # type: ignore[arg-type]  # products are named by `product` alone


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
