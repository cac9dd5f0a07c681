"""The page of the small farm, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from farm import Farm
from farm.ui.serve import open_page
from tests.support.page import TIMEOUT_MS, free_address
from tests.support.programs import installed_program

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = installed_program(*BROWSERS)
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=FLAGS, timeout=TIMEOUT_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(farm: Farm) -> Iterator[str]:
    address = free_address()
    with open_page(farm, address):
        yield f"{address.url}/"


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="de-DE")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    refused: list[str] = []
    page.on("response", lambda answer: _note_refused(answer, url, refused))
    page.goto(url)
    expect(page.locator("#submit")).to_be_visible()
    yield page
    context.close()
    assert refused == [], "the page uses only what it may"


def _note_refused(answer: Response, url: str, refused: list[str]) -> None:
    """Notes a request of the page to itself that was refused."""
    if answer.status >= 400 and answer.frame.url == url and answer.url.startswith(url):
        refused.append(f"{answer.status} {answer.request.method} {answer.url}")
