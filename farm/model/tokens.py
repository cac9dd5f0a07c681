"""One pass by several ranks: each has a share of its tokens, which meet in self-attention.

Ulysses (https://arxiv.org/abs/2309.14509): before self-attention the ranks exchange all tokens of
some heads for some tokens of all heads, and behind it they change back. Everything else in a block
looks at one token at a time, or at one latent frame (`Share.frames`). No number is added up in
another order than on one rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RankGroup:
    """The ranks that share a pass, as one of them sees it."""

    rank: int = 0
    size: int = 1
    handle: Any = None
    """Torch's process group."""

    def share(self, frames: int, frame_tokens: int) -> Share:
        """What this rank has of the tokens of that many latent frames."""
        if self.size == 1:
            return WHOLE
        return Share(self, frames * frame_tokens, frame_tokens)


ALONE = RankGroup()


@dataclass(frozen=True)
class Share:
    """Neighbouring tokens of a pass, those of one rank; B is 1, or the same on all ranks."""

    group: RankGroup
    tokens: int
    """L, of all ranks."""
    frame_tokens: int
    """Tokens of one latent frame."""

    @cached_property
    def sizes(self) -> list[int]:
        """How many tokens each rank has."""
        count = self.group.size
        bounds = [rank * self.tokens // count for rank in range(count + 1)]
        return [after - before for before, after in pairwise(bounds)]

    @property
    def start(self) -> int:
        """The first token of this rank."""
        return sum(self.sizes[: self.group.rank])

    @property
    def size(self) -> int:
        """How many tokens this rank has."""
        return self.sizes[self.group.rank]

    @property
    def frames(self) -> slice:
        """The latent frames of which this rank has tokens."""
        if self.group.size == 1:
            return slice(None)
        end = self.start + self.size
        return slice(self.start // self.frame_tokens, -(-end // self.frame_tokens))

    def own(self, tokens: Tensor) -> Tensor:
        """This rank's tokens [B, L / ranks, ...] of all [B, L, ...]."""
        if self.group.size == 1:
            return tokens.contiguous()
        return tokens[:, self.start : self.start + self.size].contiguous()

    def to_heads(self, tokens: Tensor) -> Tensor:
        """All tokens of some heads [1, L, heads / ranks, D], given its own of all heads."""
        count = self.group.size
        if count == 1:
            return tokens
        parts = tokens[0].unflatten(1, (count, -1)).transpose(0, 1)
        received = self._exchange(parts.flatten(0, 1), [self.size] * count, self.sizes)
        return received[None]

    def to_tokens(self, heads: Tensor) -> Tensor:
        """The inverse of `to_heads`; D may be another."""
        count = self.group.size
        if count == 1:
            return heads
        received = self._exchange(heads[0], self.sizes, [self.size] * count)
        return received.unflatten(0, (count, -1)).transpose(0, 1).flatten(1, 2)[None]

    def gather(self, tokens: Tensor) -> Tensor:
        """The tokens [1, L, C] of all ranks, given its own."""
        count = self.group.size
        if count == 1:
            return tokens
        copies = tokens[0].repeat(count, 1)
        return self._exchange(copies, [self.size] * count, self.sizes)[None]

    def lowest(self, values: Tensor) -> Tensor:
        """The least of all ranks."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def highest(self, values: Tensor) -> Tensor:
        """The greatest of all ranks."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def whole_frames(self, tokens: Tensor) -> Tensor:
        """Its tokens [B, L / ranks, ...] with zeros for what it lacks of their latent frames."""
        if self.group.size == 1:
            return tokens
        before, after = self._missing
        return F.pad(tokens, (0, 0) * (tokens.ndim - 2) + (before, after))

    def without_padding(self, tokens: Tensor) -> Tensor:
        """The inverse of `whole_frames`."""
        if self.group.size == 1:
            return tokens
        before, _ = self._missing
        return tokens[:, before : before + self.size]

    @property
    def _missing(self) -> tuple[int, int]:
        """Tokens before and behind its own in the same latent frames."""
        frames = self.frames
        before = self.start - frames.start * self.frame_tokens
        return before, frames.stop * self.frame_tokens - self.start - self.size

    def _exchange(self, sent: Tensor, sent_sizes: list[int], sizes: list[int]) -> Tensor:
        """What all ranks have sent to this one, along the first dimension."""
        received = sent.new_empty(sum(sizes), *sent.shape[1:])
        # As bytes: not every backend knows every dtype.
        dist.all_to_all_single(
            received.flatten(1).view(torch.uint8),
            sent.contiguous().flatten(1).view(torch.uint8),
            sizes,
            sent_sizes,
            group=self.group.handle,
        )
        return received

    def _reduce(self, values: Tensor, operation: Any) -> Tensor:
        if self.group.size == 1:
            return values
        reduced = values.clone()
        dist.all_reduce(reduced, operation, group=self.group.handle)
        return reduced


WHOLE = Share(ALONE, 0, 1)
"""All tokens, however many: what one rank has that shares them with no other."""
