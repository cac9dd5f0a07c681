"""Every bomb is stored small, or ends as a clear error at the limits of the sandbox."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.attacks.bombs import BOMBS
from tests.attacks.outcome import outcome_of

TOO_LONG = "cond_video: decoding takes longer than the 20 s that are allowed"
"""How any of them ends on a machine that is busy enough."""

OUTCOMES = {
    "scans.jpg": TOO_LONG,
    "scans.mkv": TOO_LONG,
    "growing.mkv": "stored",
    "growing.mov": "cond_video: ",
    "lying.mov": "cond_video: got 16000 x 16000 pixels, 256 megapixels; allowed: 64 megapixels",
    "samples.mp4": "cond_video: no frame of the video can be decoded; allowed: one or more",
    "thin.png": "stored",
    "fast.flac": "stored",
    "slow.wav": "cond_video: got a sample rate of 1 Hz; allowed: 4,000 to 768,000 Hz",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_the_limits_of_the_sandbox(tmp_path: Path, name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = tmp_path / name
    BOMBS[name](bomb)
    assert outcome_of(bomb, tmp_path).startswith((OUTCOMES[name], TOO_LONG))
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert grown_mb < 100, "this process makes the bomb and decodes nothing"
