"""A source video with a cut, through a real farm."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from farm import Farm
from farm.errors import InvalidInput
from farm.media.image import read_image
from tests.integration.conftest import PORTRAIT
from tests.support.videos import local_path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """The portrait for 1.2 s, then with red and blue exchanged, at 50 frames a second."""
    cold = np.ascontiguousarray(read_image(PORTRAIT)[::4, ::4])
    warm = np.ascontiguousarray(cold[..., ::-1])
    path = tmp_path / "film.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=50)
        stream.width = 128
        stream.height = 128
        stream.pix_fmt = "yuv420p"
        for index in range(150):
            frame = av.VideoFrame.from_ndarray(cold if index < 60 else warm, format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, 50)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_each_scene_starts_from_its_own_frame_and_no_frame_is_lost(
    farm: Farm, small: dict[str, Any], film: Path
) -> None:
    fields = {"cond_video": str(film), "scene_seg": True, "max_frame_num": 55}

    result = farm.submit({**small, **fields}).result()

    assert result.params["cuts"] == [30]
    assert result.params["chunks"] == 4
    assert result.params["frames"] == 55
    with av.open(str(local_path(result.video.url))) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]
    assert len(frames) == 55
    # Blue outweighs red in the whole first scene, and red outweighs blue in the whole second one.
    balance = [frame[..., 0].mean() - frame[..., 2].mean() for frame in frames]
    assert max(balance[:30]) < 0 < min(balance[30:])


def test_an_image_has_no_scenes(farm: Farm, small: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="scene_seg: got True, but cond_video is an image"):
        farm.submit({**small, "scene_seg": True}).result()
