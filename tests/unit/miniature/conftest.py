from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import save_file

from miniature.voices import corpus


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four sentences, one of them held out."""
    path = tmp_path_factory.mktemp("voices") / "voices.safetensors"
    sentences = {
        "de": [
            "Guten Morgen, wie geht es dir heute?",
            "Es schneit seit gestern Abend, und alles ist still.",
        ]
    }
    save_file(corpus(sentences, {"en-us": ["Good morning, how are you doing?"]}), path)
    return path
