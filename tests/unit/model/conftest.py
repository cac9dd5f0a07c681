"""The tiny model, loaded, and chunks of nine frames of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farm.model.denoise import Sampling
from farm.model.pipeline import Condition, Pipeline, Tail, load_pipeline
from farm.model.vae import joined
from farm.plan import Plan, audio_rows
from tests.support.tiny_model import TINY_PRESET, save_tiny_checkpoint

Made = tuple[torch.Tensor, Tail | None]
Make = Callable[..., Made]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of the tiny preset."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("weights") / TINY_PRESET.name)


@pytest.fixture(scope="session")
def pipeline(weights: Path) -> Pipeline:
    return load_pipeline(weights, TINY_PRESET, "cpu")


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def voice() -> torch.Tensor:
    """One speaker's embedding of 17 frames, [1, 17, layers, dim]."""
    return torch.randn(1, 17, 3, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def plan() -> Plan:
    return Plan(frames=16, frame_num=9, motion_frame=5)


@pytest.fixture(scope="session")
def sampling() -> Sampling:
    return Sampling(steps=2, motion_frame=5, colour_strength=0.5)


def quiet(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="session")
def condition(pipeline: Pipeline, picture: np.ndarray) -> Condition:
    return pipeline.condition(picture, size="infinitetalk-480", frame_num=9)


@pytest.fixture(scope="session")
def make(
    pipeline: Pipeline,
    plan: Plan,
    sampling: Sampling,
    condition: Condition,
    voice: torch.Tensor,
) -> Make:
    """Makes chunk `index` of the plan; any argument of `Pipeline.chunk` can be given instead."""

    def chunk(
        index: int,
        tail: Tail | None = None,
        model: Pipeline = pipeline,
        plan: Plan = plan,
        **changes: Any,
    ) -> Made:
        expected = plan.chunk(index)
        arguments = {
            "condition": condition,
            "text": pipeline.encode_text("a man talks"),
            "negative_text": pipeline.encode_text("blurred"),
            "audio": voice[:, audio_rows(expected, voice.shape[1])],
            "tail": tail,
            "sampling": sampling,
            "report": quiet,
            "show": joined,
        }
        return model.chunk(expected, **arguments | changes)

    return chunk
