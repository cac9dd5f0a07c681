from __future__ import annotations

import pytest

from farm.model.schedule import timesteps


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
    shorter = timesteps(steps, 7.0, skip_last=True)
    assert shorter.tolist() == [*whole[:-2].tolist(), 0]


def test_the_only_step_is_never_skipped() -> None:
    assert timesteps(1, 7.0, skip_last=True).tolist() == [1000, 0]
