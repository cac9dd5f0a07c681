"""What a request becomes at the generate bench."""

from __future__ import annotations

from typing import Any

import pytest

from farm.job import JobRequest
from farm.model.caching import TeaCache
from farm.model.guidance import Apg
from farm.model.pipeline import Sampling
from farm.model.presets import preset
from farm.steps.generate import sampling


def request(**fields: Any) -> JobRequest:
    given = {"prompt": "a man talks", "cond_video": "face.png", "cond_audio": {"person1": "voice.wav"}}
    return JobRequest.parse({**given, **fields})


def test_a_plain_request_is_drawn_with_the_defaults() -> None:
    assert sampling(request(), preset("miniature")) == Sampling()


@pytest.mark.parametrize(("size", "shift"), [("infinitetalk-480", 7.0), ("infinitetalk-720", 11.0)])
def test_a_shift_that_is_left_open_is_the_models_for_the_size(size: str, shift: float) -> None:
    assert sampling(request(size=size), preset("infinitetalk-480")).shift == shift
    assert sampling(request(size=size, sample_shift=2.0), preset("infinitetalk-480")).shift == 2.0


def test_apg_is_as_asked() -> None:
    asked = request(use_apg=True, apg_momentum=-0.5, apg_norm_threshold=12)
    assert sampling(asked, preset("miniature")).apg == Apg(momentum=-0.5, norm_threshold=12)


@pytest.mark.parametrize(("size", "highest"), [("infinitetalk-480", 2.57151496e5), ("infinitetalk-720", 8.10705460e3)])
def test_teacache_is_as_asked_with_the_polynomial_of_the_size(size: str, highest: float) -> None:
    cache = sampling(request(use_teacache=True, teacache_thresh=0.3, size=size), preset("infinitetalk-480")).teacache
    assert isinstance(cache, TeaCache)
    assert cache.threshold == 0.3
    assert cache.polynomial[0] == highest
