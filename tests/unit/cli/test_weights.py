"""`farm weights`."""

from __future__ import annotations

import json


def test_weights_as_json_are_a_line_for_each_part(run):
    parts = [
        json.loads(line)
        for line in run("weights", "check", "miniature", "--json").stdout.splitlines()
    ]
    assert "transformer" in {part["part"] for part in parts}
    assert all(part["tensors"] > 0 and part["bytes"] > 0 for part in parts)
