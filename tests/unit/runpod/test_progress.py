"""Progress of a serverless job."""

from __future__ import annotations

from typing import Any

from farm.runpod.progress import reported
from tests.support.waiting import wait_for


def test_only_what_is_new_is_sent_with_a_counter() -> None:
    sent: list[dict[str, Any]] = []
    stages = iter(["a", "a", "b", "b", "b", "c"])
    shown: dict[str, Any] = {}

    def newest() -> dict[str, Any] | None:
        shown["stage"] = next(stages, "c")
        return dict(shown)

    with reported(newest, sent.append, every_s=0.001):
        wait_for(lambda: len(sent) == 3)
    assert sent == [
        {"stage": "a", "counter": 1},
        {"stage": "b", "counter": 2},
        {"stage": "c", "counter": 3},
    ]


def test_nothing_is_sent_before_there_is_a_stage_or_after_the_end() -> None:
    sent: list[dict[str, Any]] = []
    asked: list[int] = []

    def newest() -> None:
        asked.append(1)

    with reported(newest, sent.append, every_s=0.001):
        wait_for(lambda: len(asked) > 3)
    count = len(asked)
    assert sent == []
    assert len(asked) == count
