"""Several ranks, on a CPU each, make the chunk that one makes, and end together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from farm.errors import Cancelled, OutOfMemory
from farm.model.caching import TeaCache
from farm.model.denoise import Sampling
from farm.model.guidance import Apg
from farm.model.pipeline import Condition, Pipeline
from farm.model.quantise import SCHEMES
from farm.model.ranks import RankedDenoiser
from farm.model.team import at_once
from farm.model.variant import Variant
from tests.support.processes import is_running
from tests.support.ranks import (
    Faults,
    denoised,
    faulty_ranks,
    fork_follower,
    load_eight_heads,
    run_out_of_memory,
    start_leader,
)
from tests.support.tiny_model import TINY_PRESET
from tests.support.waiting import wait_for
from tests.unit.model.conftest import Make


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module", params=[2, 4])
def ranked(
    request: pytest.FixtureRequest, weights: Path, pipeline: Pipeline, faults: Faults
) -> Iterator[Pipeline]:
    """The pipeline on that many ranks."""
    denoiser = faulty_ranks(weights, faults, request.param)
    yield replace(pipeline, denoiser=denoiser)
    denoiser.close()


@pytest.fixture(scope="module")
def eight() -> Iterator[RankedDenoiser]:
    denoiser = RankedDenoiser(load_eight_heads, "cpu", 8, start=fork_follower)
    yield denoiser
    denoiser.close()


@pytest.fixture(scope="module")
def odd(pipeline: Pipeline, picture: np.ndarray) -> Condition:
    """Of a size whose 45 tokens no number of ranks divides, with more than four for each.

    A matrix of fewer rows is multiplied by another kernel of the CPU, in another order.
    """
    preset = replace(TINY_PRESET, sizes={"infinitetalk-480": {1.0: (48, 80)}})
    of_that_size = replace(pipeline, preset=preset)
    return of_that_size.condition(picture, size="infinitetalk-480", frame_num=9)


@pytest.fixture
def make_alone(make: Make, odd: Condition) -> Make:
    """As `make`, of the odd size."""
    return partial(make, condition=odd)


@pytest.fixture
def make_ranked(make: Make, ranked: Pipeline, odd: Condition) -> Make:
    """The same on several ranks."""
    return partial(make, model=ranked, condition=odd)


def equal(one: tuple[Tensor, Any], other: tuple[Tensor, Any]) -> bool:
    """Whether frames and tail are equal, bit for bit."""
    return torch.equal(one[0], other[0]) and all(
        torch.equal(a, b)
        for a, b in zip(vars(one[1]).values(), vars(other[1]).values(), strict=True)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"text_scale": 1.0},
        {"apg": Apg()},
        {"steps": 8, "teacache": TeaCache(1e9, (1.0, 0.0))},
        {"text_scale": 1.0, "audio_scale": 1.0},
    ],
    ids=["three passes", "two passes", "apg", "teacache", "one pass"],
)
def test_ranks_make_the_chunk_of_one_bit_for_bit(
    make_alone: Make, make_ranked: Make, sampling: Sampling, changes: dict[str, Any]
) -> None:
    parameters = replace(sampling, **changes)
    assert equal(make_ranked(0, sampling=parameters), make_alone(0, sampling=parameters))


@pytest.mark.parametrize("scales", [{}, {"text_scale": 1.0, "audio_scale": 1.0}], ids=str)
def test_ranks_tell_two_speakers_apart_as_one_does(
    make_alone: Make, make_ranked: Make, sampling: Sampling, voice: Tensor, scales: dict[str, float]
) -> None:
    audio = torch.cat([voice[:, :13], voice[:, 4:]])
    arguments = {"sampling": replace(sampling, **scales), "audio": audio}
    assert equal(make_ranked(0, **arguments), make_alone(0, **arguments))


def test_ranks_continue_from_a_tail(make_alone: Make, make_ranked: Make) -> None:
    _, tail = make_alone(0)
    assert equal(make_ranked(1, tail), make_alone(1, tail))


def test_ranks_switch_their_variant_together(
    make_alone: Make, make_ranked: Make, pipeline: Pipeline, ranked: Pipeline, tmp_path: Path
) -> None:
    save_file({"blocks.0.norm3.diff": torch.ones(128)}, tmp_path / "adapter.safetensors")
    adapted = Variant(adapters=((tmp_path / "adapter.safetensors", 0.5),))
    plain = make_alone(0)
    for each in (pipeline, ranked):
        assert each.switch_variant(adapted)
    expected = make_alone(0)
    assert equal(make_ranked(0), expected)
    assert not equal(expected, plain)
    for each in (pipeline, ranked):
        assert each.switch_variant(Variant())
    assert equal(make_ranked(0), plain)


def test_cancelling_stops_all_ranks_at_that_step(make_alone: Make, make_ranked: Make) -> None:
    reported: list[tuple[str, int, int]] = []

    def report(*event: Any) -> None:
        reported.append(event)
        if event == ("sampling", 1, 2):
            raise Cancelled("cancelled by its owner")

    with pytest.raises(Cancelled, match="cancelled by its owner"):
        make_ranked(0, report=report)
    assert reported[-1] == ("sampling", 1, 2)
    assert equal(make_ranked(0), make_alone(0))


def test_a_full_device_of_a_follower_is_the_jobs_error_and_the_next_job_runs(
    make_alone: Make, make_ranked: Make, faults: Faults
) -> None:
    faults.plant("full device")
    with pytest.raises(OutOfMemory, match=r"rank \d does not fit on cpu: 2\.50 GiB was requested"):
        make_ranked(0)
    assert equal(make_ranked(0), make_alone(0))


def test_an_error_of_the_leader_within_a_step_ends_the_followers_and_the_next_job_runs(
    make_alone: Make, make_ranked: Make, ranked: Pipeline
) -> None:
    hook = ranked.transformer.register_forward_pre_hook(lambda *_: run_out_of_memory())
    with pytest.raises(OutOfMemory, match=r"48x80 does not fit on cpu: 2\.50 GiB was requested"):
        make_ranked(0)
    hook.remove()
    assert equal(make_ranked(0), make_alone(0))


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("quant", [None, *SCHEMES])
def test_eight_ranks_of_one_head_each_denoise_as_one_does(
    eight: RankedDenoiser, quant: str | None, passes: int
) -> None:
    alone = load_eight_heads("cpu")
    for denoiser in (alone, eight):
        denoiser.switch(Variant(quant=quant))
    assert torch.equal(denoised(eight, passes), denoised(alone, passes))


@pytest.fixture
def own_faults(tmp_path: Path) -> Faults:
    """Those of a leader in a process of its own."""
    return Faults(tmp_path)


@pytest.mark.parametrize("fault", ["death", "error"])
def test_a_lost_rank_ends_its_leader_and_all_others(
    weights: Path, own_faults: Faults, fault: str
) -> None:
    own_faults.plant(fault)
    leader = start_leader(weights, own_faults, 4)
    leader.join()
    assert leader.exitcode == 1
    assert len(own_faults.pids) == 3
    wait_for(lambda: not any(map(is_running, own_faults.pids)))


def test_ranks_end_with_their_leader_even_in_the_middle_of_a_step(
    weights: Path, own_faults: Faults
) -> None:
    own_faults.plant("pause")
    leader = start_leader(weights, own_faults, 2)
    wait_for(lambda: own_faults.pids and not own_faults.is_planted("pause"))
    leader.kill()
    wait_for(lambda: not any(map(is_running, own_faults.pids)))


@pytest.mark.parametrize(
    ("passes", "ranks", "expected"),
    [(1, 1, 1), (3, 1, 1), (1, 2, 1), (2, 2, 2), (3, 2, 2), (2, 4, 2), (3, 4, 2), (3, 3, 3),
     (2, 3, 1), (2, 8, 2), (3, 6, 3)],
)  # fmt: skip
def test_as_many_passes_run_at_once_as_can_have_the_same_number_of_ranks(
    passes: int, ranks: int, expected: int
) -> None:
    assert at_once(passes, ranks) == expected
