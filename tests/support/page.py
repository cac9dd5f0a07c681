"""The page in a browser: how long a test waits for it, and for a job that it shows."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from farm.net.address import ListenAddress
from tests.support.ports import free_port

TIMEOUT_MS = 600_000
"""Tests wait for events; this is below pytest's own timeout, so that a failure names the event."""


def free_address() -> ListenAddress:
    return ListenAddress("127.0.0.1", free_port())


def wait_for_bar(page: Page, state: str) -> None:
    expect(page.locator("#bar .job")).to_have_attribute("data-state", state)


def wait_for_player(page: Page, condition: str) -> None:
    """Returns once a JavaScript expression about `video` is true."""
    video = "const video = document.querySelector('#player video')"
    page.wait_for_function(f"() => {{ {video}; return video && {condition} }}")
