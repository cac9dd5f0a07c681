from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import InvalidInput
from farm.presets import PRESETS, Preset, cropped_share, preset


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"preset: got .minature.; allowed: .*miniature.*; did you mean miniature\?",
    ):
        preset("minature")


@pytest.mark.parametrize("each", PRESETS.values(), ids=lambda each: each.name)
def test_sizes_fit_the_patches_and_say_their_ratio(each: Preset) -> None:
    for size, buckets in each.sizes.items():
        assert size in each.shifts
        for ratio, (height, width) in buckets.items():
            assert height % 16 == width % 16 == 0
            assert height / width == pytest.approx(ratio, abs=0.006)


def test_parts_that_a_folder_lacks_are_missing_and_the_tokenizer_is_one(tmp_path: Path) -> None:
    each = preset("infinitetalk-480")
    assert each.missing_parts(tmp_path) == [*each.parts, "tokenizer"]
    for part in each.parts:
        (tmp_path / part).mkdir()
    assert each.missing_parts(tmp_path) == ["tokenizer"]
    (tmp_path / "tokenizer").mkdir()
    assert each.missing_parts(tmp_path) == []


@pytest.mark.parametrize(
    ("height", "width", "share"),
    [
        (128, 128, 0.0),
        (256, 256, 0.0),
        (300, 3000, 1 - 300 * 550 / (300 * 3000)),
        (64, 128, 1 / 12),
    ],
)
def test_the_share_of_an_image_that_is_cropped_away(height: int, width: int, share: float) -> None:
    buckets = preset("miniature").buckets("infinitetalk-480")
    assert cropped_share(height, width, buckets) == pytest.approx(share)


def test_presets_are_read_without_torch() -> None:
    code = "import sys, farm.presets; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
