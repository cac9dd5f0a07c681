"""The GPUs of a simulated farm: how many there may be, how they come and go, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf


@dataclass(frozen=True)
class Video:
    """What every simulated job makes."""

    chunks: int
    chunk_s: float
    """GPU seconds of each chunk."""
    seconds: float
    """Its length."""
    prepare_s: float = 0.0
    """From the submission to its first chunk's message: download and embed."""


@dataclass(frozen=True)
class Fleet:
    """As KEDA scales a farm: see docs/kubernetes.md."""

    max_gpus: int
    min_gpus: int = 0
    """These never leave, and are there from the start."""
    cold_start_s: float = 0.0
    """From the autoscaler's decision to the first chunk: node, image, model."""
    idle_exit_s: float = inf
    """FARM_IDLE_EXIT_S."""
    poll_s: float = 15.0
    """Between two looks of the autoscaler at the metrics."""
    target_s: float | None = None
    """No more GPUs than would do the work that is left in this time; None: one for each job."""
    losses_per_hour: float = 0.0
    """How often a spot node is taken away, in each hour that it runs."""

    def wanted(self, jobs: int, work_s: float) -> int:
        """GPUs for so many runnable jobs with so many GPU seconds left."""
        useful = jobs if self.target_s is None else min(jobs, ceil(work_s / self.target_s))
        return max(self.min_gpus, min(self.max_gpus, useful))
