"""A request that is accepted, and the error of one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest

FACE = "https://example.org/face.png"
VOICE = {"person1": "https://example.org/voice.wav"}
GIVEN: dict[str, Any] = {"prompt": "a woman talks", "cond_video": FACE, "cond_audio": VOICE}


def refusal(fields: dict[str, Any]) -> str:
    with pytest.raises(InvalidInput) as caught:
        JobRequest.parse(fields)
    return caught.value.message
