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
    "growing.mkv": "cond_video: a frame cannot be decoded; allowed: frames of at most 64",
    "growing.mov": "cond_video: the codec of its video is png; allowed: h264, ",
    "lying.mov": "cond_video: the codec of its video is png; allowed: h264, ",
    "samples.mp4": "cond_video: no frame of the video can be decoded; allowed: one or more",
    "thin.png": "cond_video: got 16 x 16384 pixels; allowed: one side up to 8 times the other",
    "fast.flac": "stored",
    "slow.wav": "cond_video: got 14,000 s; allowed: 3,600 s",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_the_limits_of_the_sandbox(tmp_path: Path, name: str) -> None:
    bomb = tmp_path / name
    BOMBS[name](bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcome_of(bomb, tmp_path).startswith((OUTCOMES[name], TOO_LONG))
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert grown_mb < 50, "this process decodes nothing"
