"""Estimates of jobs before they are submitted."""

from __future__ import annotations

import base64
import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from farm.client.estimate import estimate
from farm.job import JobRequest
from farm.settings import Settings


def test_embedded_files_are_not_cached(voice: Path) -> None:
    def estimate_with_face(number: int) -> None:
        file = BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, (600, 600, 3), np.uint8)
        Image.fromarray(noise).save(file, "PNG", compress_level=0)
        face = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        estimate(
            JobRequest.parse(
                {"prompt": "x", "cond_video": face, "cond_audio": {"person1": str(voice)}}
            ),
            Settings(),
        )

    estimate_with_face(0)
    tracemalloc.start()
    for number in range(1, 11):
        estimate_with_face(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1e6
