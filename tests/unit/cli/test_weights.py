"""`farm weights`."""

from __future__ import annotations

import json

from farm.model.weights.fingerprint import UNREMEMBERED, checkpoint_fingerprint
from farm.presets import MINIATURE


def test_weights_as_json_are_a_line_for_each_part_and_their_fingerprint(run, tmp_path):
    *parts, last = [
        json.loads(line)
        for line in run("weights", "check", "miniature", "--json").stdout.splitlines()
    ]
    assert "transformer" in {part["part"] for part in parts}
    assert all(part["tensors"] > 0 and part["bytes"] > 0 for part in parts)
    fingerprint = checkpoint_fingerprint(MINIATURE.folder(tmp_path), UNREMEMBERED)
    assert last == {"fingerprint": fingerprint}


def test_the_fingerprint_of_weights_is_shown(run, tmp_path):
    fingerprint = checkpoint_fingerprint(MINIATURE.folder(tmp_path), UNREMEMBERED)
    assert run("weights", "check", "miniature").stdout.endswith(f" {fingerprint}\n")
