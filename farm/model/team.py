"""How several ranks share the passes of a step.

Passes come first, since they need nothing of each other: with as many passes as ranks, each rank
has one. Where there are fewer passes, several ranks share the tokens of one (`farm.model.tokens`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from farm.model.guidance import Branch
from farm.model.tokens import ALONE, RankGroup

MOST_PASSES = 3
"""Of a step (`farm.model.guidance`)."""


@dataclass(frozen=True)
class Team:
    """The ranks that denoise a chunk together, as one of them sees it."""

    rank: int = 0
    size: int = 1
    groups: Mapping[int, RankGroup] = field(default_factory=lambda: {1: ALONE})
    """Those of this rank, by their size."""

    def predictions(
        self, passes: Sequence[Branch], predict: Callable[[Branch, RankGroup], Tensor]
    ) -> list[Tensor]:
        """The prediction of every pass, in their order, the same on all ranks.

        `predict` makes that of a pass by a group.
        """
        predictions: list[Tensor] = []
        while len(predictions) < len(passes):
            left = passes[len(predictions) :]
            count = at_once(len(left), self.size)
            size = self.size // count
            prediction = predict(left[self.rank // size], self.groups[size])
            predictions += self._gather(prediction)[::size] if count > 1 else [prediction]
        return predictions

    def _gather(self, prediction: Tensor) -> list[Tensor]:
        """The predictions of all ranks."""
        gathered = [torch.empty_like(prediction) for _ in range(self.size)]
        dist.all_gather(gathered, prediction.contiguous())
        return gathered


def join_team(rank: int, size: int, store: Store, device: str) -> Team:
    """Enters the team whose ranks meet at the store; returns when all of them have.

    A process is in one team at a time.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo")  # no port is open to other machines
    on_cuda = device.startswith("cuda")
    dist.init_process_group(
        "nccl" if on_cuda else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        device_id=torch.device(device) if on_cuda else None,
    )
    return Team(rank, size, _groups(rank, size))


def _groups(rank: int, size: int) -> dict[int, RankGroup]:
    """The groups of a rank for any number of passes; all ranks make them together."""
    groups = {1: ALONE}
    for count in {at_once(passes, size) for passes in range(1, MOST_PASSES + 1)}:
        members = size // count
        for first in range(0, size if members > 1 else 0, members):
            handle = dist.new_group(list(range(first, first + members)))
            if first <= rank < first + members:
                groups[members] = RankGroup(rank - first, members, handle)
    return groups


def at_once(passes: int, ranks: int) -> int:
    """How many passes run at once, each by as many ranks as any other."""
    return max(count for count in range(1, passes + 1) if ranks % count == 0)
