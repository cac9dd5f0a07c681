"""Ranks of tiny models on the CPU, some with faults, which strike in a pass of a follower."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farm.model.audio import audio_windows
from farm.model.block_attention import fold_audio_attention
from farm.model.denoise import ChunkConditions, Denoiser, Sampling, load_denoiser
from farm.model.parts import build
from farm.model.ranks import RankedDenoiser, follow
from farm.model.sampler import SAMPLERS, Noise
from farm.model.variant import Variants
from tests.reference.drawing import draw, filled
from tests.support.fork_server import FORK_SERVER, ForkedWorker
from tests.support.tiny_model import TINY_PRESET


@dataclass(frozen=True)
class Faults:
    """A folder in which a file plants the fault of its name, and followers leave their pids."""

    folder: Path

    def plant(self, fault: str) -> None:
        """The fault strikes once, in whichever follower comes first."""
        (self.folder / fault).touch()

    def is_planted(self, fault: str) -> bool:
        """Whether it has not struck yet."""
        return (self.folder / fault).exists()

    @property
    def pids(self) -> list[int]:
        """Of all followers that have loaded the model."""
        return [int(path.name) for path in self.folder.glob("[0-9]*")]

    def load(self, weights: Path, leader: int, device: str) -> Denoiser:
        denoiser = load_denoiser(weights, TINY_PRESET, device)
        if os.getpid() != leader:
            (self.folder / str(os.getpid())).touch()
            denoiser.transformer.register_forward_pre_hook(self._strike)
        return denoiser

    def _strike(self, *_: Any) -> None:
        for fault, strike in STRIKES.items():
            with suppress(FileNotFoundError):
                (self.folder / fault).unlink()
                strike()


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has")


def fail() -> None:
    raise RuntimeError("an illegal memory access was encountered")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


STRIKES: dict[str, Callable[[], None]] = {
    "full device": run_out_of_memory,
    "error": fail,
    "death": die,
    "pause": signal.pause,
}


def faulty_ranks(weights: Path, faults: Faults, size: int) -> RankedDenoiser:
    """A denoiser on that many ranks, which this process leads."""
    load = partial(faults.load, weights, os.getpid())
    return RankedDenoiser(load, "cpu", size, start=fork_follower)


def fork_follower(pipe: Connection) -> ForkedWorker:
    """A follower from the fork server, which need not import the model."""
    process = FORK_SERVER.Process(target=follow, args=(pipe,))
    process.start()
    return ForkedWorker(process)


def start_leader(weights: Path, faults: Faults, size: int) -> ForkServerProcess:
    """A process that leads that many ranks through one chunk."""
    leader = FORK_SERVER.Process(target=_lead, args=(weights, faults, size))
    leader.start()
    return leader


def _lead(weights: Path, faults: Faults, size: int) -> None:
    denoised(faulty_ranks(weights, faults, size), passes=1)


def load_eight_heads(device: str) -> Denoiser:
    """The tiny transformer with eight narrow heads, and its audio attention folded."""
    config = {
        **TINY_PRESET.parts["transformer"],
        "num_attention_heads": 8,
        "attention_head_dim": 16,
    }
    transformer = filled(build("transformer", config))
    fold_audio_attention(transformer, is_folded=True)
    return Denoiser(transformer, Variants(transformer, transformer.state_dict(), device), device)


def denoised(denoiser: Denoiser | RankedDenoiser, passes: int) -> Tensor:
    """Latents of 45 tokens after two steps of that many passes, from drawn inputs."""
    conditions = ChunkConditions(
        latents=draw("latents", (20, 3, 6, 10)),
        image=draw("image", (1, 257, 64)),
        regions=torch.ones(1, 3, 15),
        text={prompt: draw(f"text {prompt}", (1, 8, 64)) for prompt in (True, False)},
        audio={
            speech: audio_windows(draw(f"audio {speech}", (1, 1, 13, 3, 64)))
            for speech in (True, False)
        },
    )
    noise = Noise(draw("noise", (16, 3, 6, 10)))
    scales = {1: (1.0, 1.0), 2: (1.0, 2.0), 3: (5.0, 4.0)}[passes]
    return denoiser.denoise(
        SAMPLERS["euler"],
        noise,
        noise.initial[:, :1],
        conditions,
        Sampling(steps=2, text_scale=scales[0], audio_scale=scales[1]),
        report=lambda *_: None,
    )
