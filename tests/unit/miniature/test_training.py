"""Training stops at a deadline, and is resumed where it stopped."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from miniature.training import Losses, Run, Stopped, generator, train_model


def fitted(home: Path, *, deadline: float = float("inf"), training_s: float = 300) -> Any:
    """A line fitted to random points, with a clock that ticks when it is read."""
    ticks = itertools.count()
    run = Run(home, torch.device("cpu"), deadline, lambda: float(next(ticks)))
    torch.manual_seed(0)

    def compute_losses(model: Any, step: int, progress: float) -> Losses:
        x = torch.randn(8, 1, generator=generator(run, step))
        return {
            "loss": (model(x) - 3 * x).square().mean(),
            "progress": torch.tensor(progress),
        }

    return train_model(
        run, "line", nn.Linear(1, 1), compute_losses, training_s=training_s, peak_lr=0.05
    )


def test_a_stopped_training_of_equal_steps_ends_as_if_never_stopped(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = fitted(whole).state_dict()
    with pytest.raises(Stopped, match=r"line: \d+% are done; run the same command again"):
        fitted(parts, deadline=400)
    resumed = fitted(parts).state_dict()
    assert all(resumed[name].equal(expected[name]) for name in expected)


def test_an_interrupted_save_leaves_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the state of a stopped training
    with pytest.raises(Stopped):
        fitted(tmp_path, deadline=100)
    before = torch.load(tmp_path / "line.state.pt", weights_only=True)

    # When the next save is interrupted after half of the file
    def interrupted(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, deadline=100)
    monkeypatch.undo()

    # Then that state is still there, and the training goes on from it
    assert torch.load(tmp_path / "line.state.pt", weights_only=True)["step"] == before["step"] > 0
    fitted(tmp_path)


def test_it_learns_and_returns_the_average_ready_for_use(tmp_path: Path) -> None:
    model = fitted(tmp_path)
    assert model.weight.item() == pytest.approx(3, abs=0.2)
    state = torch.load(tmp_path / "line.state.pt", weights_only=True)
    assert model.weight.equal(state["average"]["weight"])
    assert not model.weight.equal(state["model"]["weight"])
    assert not model.training
    assert not model.weight.requires_grad


def test_losses_are_logged_with_their_step(tmp_path: Path) -> None:
    fitted(tmp_path, training_s=250)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200]
    assert lines[0]["stage"] == "line"
    assert lines[1]["loss"] < lines[0]["loss"]
    assert 0 < lines[0]["progress"] < lines[1]["progress"] < 1


def test_streams_and_steps_have_independent_random_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path, torch.device("cpu"))
    drawn = [
        torch.rand(4, generator=generator(run, step, stream))
        for step, stream in ((1, 0), (2, 0), (1, 1))
    ]
    assert len({tuple(each.tolist()) for each in drawn}) == 3
    assert drawn[0].equal(torch.rand(4, generator=generator(run, 1, 0)))
