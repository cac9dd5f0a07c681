from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from farm.model.sampler import Consistency, FlowMatchEuler, without_last_step


def timesteps(steps: int, shift: float) -> Tensor:
    return FlowMatchEuler().timesteps(steps, shift)


def test_it_runs_from_pure_noise_to_none_in_one_more_point_than_steps() -> None:
    times = timesteps(40, 7.0)
    assert len(times) == 41
    assert times[0] == 1000
    assert times[-1] == 0
    assert (times.diff() < 0).all()


@pytest.mark.parametrize(("shift", "last"), [(7.0, 6.9582505), (11.0, 10.891089), (2.0, 1.998002)])
def test_the_shift_bends_the_end_once(shift: float, last: float) -> None:
    assert timesteps(4, shift)[-2].item() == pytest.approx(last, rel=1e-6)


def test_without_a_shift_the_steps_are_even() -> None:
    assert timesteps(4, 1.0).tolist() == pytest.approx([1000, 667, 334, 1, 0], rel=1e-6)


def test_a_shift_of_seven_is_as_calculated_by_hand() -> None:
    assert timesteps(4, 7.0)[1].item() == pytest.approx(
        1000 * 7 * 0.667 / (1 + 6 * 0.667), rel=1e-6
    )


@pytest.mark.parametrize("steps", [2, 4, 40])
def test_without_its_last_step_the_schedule_reaches_zero_one_step_earlier(
    steps: int,
) -> None:
    whole = timesteps(steps, 7.0)
    shorter = without_last_step(whole)
    assert shorter.tolist() == [*whole[:-2].tolist(), 0]


def test_the_only_step_is_never_skipped() -> None:
    assert without_last_step(timesteps(1, 7.0)).tolist() == [1000, 0]


@pytest.mark.parametrize(
    ("steps", "times"),
    [(4, [1000, 937.5, 833.3333, 625, 0]), (2, [1000, 833.3333, 0]), (3, [1000, 833.61, 4.98, 0])],
)
def test_the_consistency_sampler_takes_the_times_of_its_distillation(
    steps: int, times: list[float]
) -> None:
    assert Consistency().timesteps(steps, 5.0).tolist() == pytest.approx(times, rel=1e-3)


def test_it_goes_to_the_clean_estimate_and_is_noised_anew() -> None:
    # given latents of known data and noise, and the velocity that leads from one to the other
    sampler = Consistency()
    times = sampler.timesteps(2, 5.0)
    noise = sampler.draw(Generator().manual_seed(0), (16, 3, 4, 4), steps=2, known=None)
    data = torch.full((16, 3, 4, 4), 0.5)
    share = times[1] / 1000
    # then the first step mixes the data with fresh noise, and the last one leaves the data
    after = sampler.step(noise.initial, noise.initial - data, times, 0, noise)
    torch.testing.assert_close(after, (1 - share) * data + share * noise.fresh[0])
    velocity = noise.fresh[0] - data
    torch.testing.assert_close(sampler.step(after, velocity, times, 1, noise), data)


@pytest.mark.parametrize("known", [None, 0, 2])
def test_it_draws_as_much_for_every_chunk(known: int | None) -> None:
    generator, plain = (Generator().manual_seed(0) for _ in range(2))
    noise = Consistency().draw(generator, (16, 3, 4, 4), steps=4, known=known)
    expected = [torch.randn(16, 3, 4, 4, generator=plain) for _ in range(5)]
    torch.testing.assert_close([noise.initial, *noise.fresh], expected, rtol=0, atol=0)
    assert torch.equal(generator.get_state(), plain.get_state())
