from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from farm.model.caching import BlockCache, TeaCache
from farm.model.denoise import Sampling
from farm.model.pipeline import Pipeline

AS_IT_IS = (1.0, 0.0)


def growing(*changes: float) -> Tensor:
    """Modulations [steps, 1] that grow by these shares from step to step."""
    values = [1.0]
    for change in changes:
        values.append(values[-1] * (1 + change))
    return torch.tensor(values)[:, None]


def test_the_first_five_steps_are_always_computed() -> None:
    assert TeaCache(100.0, AS_IT_IS).plan(growing(*[0.0] * 7)) == [True] * 5 + [False] * 3
    assert TeaCache(100.0, AS_IT_IS).plan(growing(0.0)) == [True] * 2


def test_changes_add_up_until_the_blocks_run_again() -> None:
    plan = TeaCache(0.25, AS_IT_IS).plan(growing(*[0.1] * 10))
    assert plan[5:] == [False, False, True, False, False, True]


def test_changes_in_the_first_steps_do_not_count() -> None:
    plan = TeaCache(0.25, AS_IT_IS).plan(growing(9, 9, 9, 9, 0.2, 0.2))
    assert plan[5:] == [False, True]


def test_the_polynomial_takes_its_highest_power_first() -> None:
    # given changes of 0.5, of which 4 x 0.5 ** 2 + 0.5 + 0.1 makes 1.6
    changes = growing(*[0.5] * 5)
    assert TeaCache(1.59, (4, 1, 0.1)).plan(changes)[5]
    assert not TeaCache(1.61, (4, 1, 0.1)).plan(changes)[5]


def test_a_threshold_of_zero_skips_nothing(
    make: Callable[..., tuple[Tensor, object]], sampling: Sampling
) -> None:
    plain = replace(sampling, steps=7)
    cached = replace(plain, teacache=TeaCache(0.0, AS_IT_IS))
    assert torch.equal(make(0, sampling=cached)[0], make(0, sampling=plain)[0])


def test_a_skipped_step_reuses_the_residual_of_the_last_computed_one() -> None:
    runs: list[Tensor] = []

    def blocks(x: Tensor) -> Tensor:
        runs.append(x)
        return 3 * x

    cache = BlockCache([True, False, True, False])
    through = [cache(torch.tensor(float(x)), blocks).item() for x in (1, 10, 2, 10)]
    assert through == [3, 12, 6, 14]
    assert len(runs) == 2


@pytest.mark.parametrize(("text_scale", "passes"), [(5.0, 3), (1.0, 2)])
def test_every_branch_has_a_separate_cache(
    make: Callable[..., tuple[Tensor, object]],
    pipeline: Pipeline,
    sampling: Sampling,
    text_scale: float,
    passes: int,
) -> None:
    # given a job of seven steps whose last two are skipped
    model = pipeline.transformer
    entered = []
    left = []
    headed = []
    hooks = [
        model.patch_embedding.register_forward_hook(
            lambda _, __, x: entered.append(x.flatten(2).transpose(1, 2))
        ),
        model.blocks[-1].register_forward_hook(lambda _, __, x: left.append(x)),
        model.norm_out.register_forward_pre_hook(lambda _, seen: headed.append(seen[0])),
    ]
    make(
        0,
        sampling=replace(
            sampling,
            steps=7,
            text_scale=text_scale,
            teacache=TeaCache(1e9, AS_IT_IS),
        ),
    )
    for hook in hooks:
        hook.remove()
    # then a skipped pass reuses the residual of the same branch's last computed one
    assert (len(left), len(headed)) == (5 * passes, 7 * passes)
    for computed in range(4 * passes, 5 * passes):
        residual = left[computed] - entered[computed]
        skipped = computed + passes
        torch.testing.assert_close(headed[skipped], entered[skipped] + residual)
