"""A trained part is stored whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from miniature.making import _train_part
from miniature.training import Run


class Part(nn.Linear):
    """A part in two files, between which its storing may be interrupted."""

    def __init__(self, *, interrupted: bool) -> None:
        super().__init__(1, 1)
        self.interrupted = interrupted

    def save_pretrained(self, folder: Path, max_shard_size: str) -> None:
        (folder / "config.json").write_text("{}")
        if self.interrupted:
            raise KeyboardInterrupt
        torch.save(self.state_dict(), folder / "weights.pt")


def test_a_part_whose_storing_was_interrupted_is_stored_by_the_next_run(tmp_path: Path) -> None:
    run = Run(tmp_path, torch.device("cpu"))
    with pytest.raises(KeyboardInterrupt):
        _train_part(run, "vae", lambda: Part(interrupted=True))
    assert list((tmp_path / "weights").iterdir()) == []

    _train_part(run, "vae", lambda: Part(interrupted=False))
    stored = {path.name for path in (tmp_path / "weights" / "vae").iterdir()}
    assert stored == {"config.json", "weights.pt"}


def test_a_stored_part_is_not_trained_again(tmp_path: Path) -> None:
    (tmp_path / "weights" / "vae").mkdir(parents=True)
    _train_part(Run(tmp_path, torch.device("cpu")), "vae", lambda: pytest.fail("trained again"))
