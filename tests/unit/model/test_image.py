from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from farm.model.checkpoints import load_part
from farm.model.image import ImageEncoder, resize_and_crop
from farm.presets import nearest_bucket, preset

SIZES = preset("infinitetalk-480").sizes


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (640, 640, (640, 640)),
        (1080, 1920, (448, 896)),
        (1920, 1080, (832, 448)),
        (90, 9, (1280, 320)),
    ],
)
def test_the_bucket_with_the_nearest_ratio_wins(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert nearest_bucket(height, width, SIZES["infinitetalk-480"]) == expected


def test_of_two_equally_near_buckets_the_first_listed_wins() -> None:
    assert nearest_bucket(10, 10, {0.5: (1, 2), 1.5: (3, 2)}) == (1, 2)
    assert nearest_bucket(10, 10, {1.5: (3, 2), 0.5: (1, 2)}) == (3, 2)


def test_a_picture_is_scaled_to_cover_and_cut_in_the_middle() -> None:
    # given a picture twice as wide as high, black left, grey middle, white right
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, 16:48] = 127
    frame[:, 48:] = 255
    cut = resize_and_crop(frame, 32, 32)
    assert cut.shape == (3, 32, 32)
    assert cut.unique().tolist() == pytest.approx([(127 / 255 - 0.5) * 2])


def test_black_and_white_reach_the_ends_of_the_range() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    frame[10:] = 255
    cut = resize_and_crop(frame, 16, 24)
    assert (cut.min().item(), cut.max().item()) == (-1, 1)


def test_an_odd_margin_is_cut_half_to_even() -> None:
    # given 21 rows for 16: half of 5 is 2.5, and two rows are cut above
    frame = np.repeat(np.arange(21, dtype=np.uint8)[:, None, None], 16, axis=1).repeat(3, axis=2)
    assert ((resize_and_crop(frame, 16, 16)[0, 0, 0] / 2 + 0.5) * 255).item() == pytest.approx(2)


def test_clip_gives_257_tokens_for_an_image_of_any_shape(
    weights: Path,
) -> None:
    encoder = ImageEncoder(load_part(weights, "image_encoder", dtype="float32"))
    tokens = encoder(torch.rand(3, 96, 176) * 2 - 1)
    assert tokens.shape == (1, 257, 64)
    assert tokens.dtype == torch.float32


def test_the_tokens_are_those_of_the_last_layer_but_one(weights: Path) -> None:
    model = load_part(weights, "image_encoder", dtype="float32")
    last = ImageEncoder(model)(torch.zeros(3, 224, 224))
    # when the last layer is destroyed, then nothing changes
    model.encoder.layers[-1].mlp.fc2.weight.data.zero_()
    assert torch.equal(ImageEncoder(model)(torch.zeros(3, 224, 224)), last)
    model.encoder.layers[-2].mlp.fc2.weight.data.zero_()
    assert not torch.equal(ImageEncoder(model)(torch.zeros(3, 224, 224)), last)


class Retina:
    """In place of CLIP; keeps the pixels that it is given."""

    config = SimpleNamespace(image_size=224)
    dtype = torch.float32

    def eval(self) -> Retina:
        return self

    def __call__(
        self, *, pixel_values: torch.Tensor, output_hidden_states: bool
    ) -> SimpleNamespace:
        self.seen = pixel_values
        return SimpleNamespace(hidden_states=[torch.zeros(1, 257, 4)] * 3)


def test_clip_gets_a_square_in_its_normalisation() -> None:
    retina = Retina()
    ImageEncoder(retina)(torch.zeros(3, 96, 176))
    assert retina.seen.shape == (1, 3, 224, 224)
    assert retina.seen[0, :, 0, 0].tolist() == pytest.approx(
        [
            (0.5 - 0.48145466) / 0.26862954,
            (0.5 - 0.4578275) / 0.26130258,
            (0.5 - 0.40821073) / 0.27577711,
        ],
        rel=1e-5,
    )


def test_clip_gets_the_overshoot_of_bicubic_edges() -> None:
    edge = torch.ones(3, 32, 32)
    edge[:, :, :16] = -1
    retina = Retina()
    ImageEncoder(retina)(edge)
    assert retina.seen[0, 0].max() > (1 - 0.48145466) / 0.26862954 + 0.05
