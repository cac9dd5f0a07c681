"""Two screenshots of the page, for docs/: a growing video, and boxes of two speakers. Run as

python -m examples.make_page page.png boxes.png

It needs Debian's Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from farm import Farm
from farm.local.supervisor import open_supervisor
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.ui.serve import open_page

EXAMPLES = Path(__file__).parent
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
]
AUTOPLAY = ["--autoplay-policy=no-user-gesture-required"]
ADDRESS = ListenAddress("127.0.0.1", 7861)
TIMEOUT_MS = 180_000

BOXES = ((0.08, 0.1, 0.44, 0.75), (0.56, 0.1, 0.92, 0.75))
"""The couple's faces in fractions of the image: left, top, right, bottom."""


def show_growing_video(page: Page) -> None:
    """Shows one speaker's video playing while it is generated."""
    choose(page, face="portrait.png", audio1="speech.wav")
    page.fill("#prompt input, #prompt textarea", "a drawn person talks to the camera")
    page.locator("#quality").get_by_text("draft").click()
    page.click("#submit")
    page.wait_for_function(
        "() => document.querySelector('#player video')?.currentTime > 1", timeout=TIMEOUT_MS
    )


def show_boxes(page: Page) -> None:
    """Shows two speakers, each with a box."""
    page.locator("#speakers").get_by_text("two").click()
    choose(page, face="couple.png", audio1="question.wav", audio2="answer.wav")
    page.get_by_text("Draw a box").wait_for()
    page.wait_for_function("() => document.querySelector('#boxes img.face').naturalWidth > 0")
    image = page.locator("#boxes img.face").bounding_box() or {}
    for left, top, right, bottom in BOXES:
        for x, y, act in ((left, top, page.mouse.down), (right, bottom, page.mouse.up)):
            page.locator("#boxes .stage").hover(
                position={"x": x * image["width"], "y": y * image["height"]}
            )
            act()
    page.locator("#boxes rect.person2").wait_for()


def choose(page: Page, **files: str) -> None:
    for name, file in files.items():
        page.set_input_files(f"#{name} input[type=file]", EXAMPLES / file)
        page.locator(f"#{name} input[type=file]").wait_for(state="detached")


def main(*targets: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        open_supervisor(Settings(home=Path(home))) as supervisor,
        open_page(Farm(settings=supervisor.settings), ADDRESS),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*QUIET, *AUTOPLAY]
        )
        for show, target in zip((show_growing_video, show_boxes), targets, strict=True):
            page = browser.new_page(viewport={"width": 1240, "height": 800})
            page.goto(ADDRESS.url)
            show(page)
            page.screenshot(path=target, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
