"""Estimates of jobs before they are submitted."""

from __future__ import annotations

import base64
import tracemalloc
from pathlib import Path

from farm.client.estimate import estimate
from farm.job import JobRequest


def test_embedded_files_are_not_cached(voice: Path) -> None:
    def estimate_with_face(number: int) -> None:
        face = "data:image/png;base64," + base64.b64encode(bytes([number]) * 1_000_000).decode()
        estimate(
            JobRequest.parse(
                {"prompt": "x", "cond_video": face, "cond_audio": {"person1": str(voice)}}
            )
        )

    estimate_with_face(0)
    tracemalloc.start()
    for number in range(1, 11):
        estimate_with_face(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1e6
