"""Flower's API, with the login that tests give it."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

from farm.net.address import ListenAddress

FLOWER_AUTH = "me:secret-of-flower"


def ask_flower(address: ListenAddress, path: str) -> Any:
    """The answer of Flower at this path, which is JSON."""
    token = base64.b64encode(FLOWER_AUTH.encode()).decode()
    request = urllib.request.Request(address.url + path)
    request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())
