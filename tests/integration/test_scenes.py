"""A source video with a cut, through the real farm."""

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
from tests.integration.test_farm import local


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """The portrait for 1.2 s, then the same with red for blue, at 50 frames a second."""
    cold = np.ascontiguousarray(read_image(PORTRAIT)[::4, ::4])
    warm = np.ascontiguousarray(cold[..., ::-1])
    path = tmp_path / "film.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for index in range(150):
            frame = av.VideoFrame.from_ndarray(cold if index < 60 else warm, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 50)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_each_scene_is_drawn_from_its_own_picture_and_no_frame_is_lost(farm: Farm, small: Any, film: Path) -> None:
    job = farm.submit({**small, "cond_video": str(film), "scene_seg": True, "max_frame_num": 55})

    result = job.result(timeout_s=120)

    assert (result.params["cuts"], result.params["chunks"], result.params["frames"]) == ([30], 4, 55)
    with av.open(str(local(result.video.url))) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]
    assert len(frames) == 55
    # blue outweighs red in the first scene, up to its last frame, and red outweighs blue from the second's first on
    balance = [frame[..., 0].mean() - frame[..., 2].mean() for frame in frames]
    assert max(balance[:30]) < 0 < min(balance[30:])


def test_a_picture_has_no_scenes(farm: Farm, small: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="scene_seg: got True, but cond_video is a picture"):
        farm.submit({**small, "scene_seg": True}).result(timeout_s=60)
