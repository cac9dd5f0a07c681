"""Screenshots of the page, and a film of it at work, for docs/. Run as

python -m examples.make_page docs

It needs Debian's Chromium.
"""

from __future__ import annotations

import shutil
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
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
VIEWPORT: Any = {"width": 1280, "height": 900}
FILM_SIZE = (768, 540)
FRAME_MS = 500

BOXES = ((0.08, 0.1, 0.44, 0.75), (0.56, 0.1, 0.92, 0.75))
"""The couple's faces in fractions of the image: left, top, right, bottom."""


def show_growing_video(page: Page) -> None:
    """Shows one speaker's video playing while it is generated."""
    choose(page, face="portrait.png", audio1="speech.wav")
    page.locator("#quality").get_by_label("draft").check()
    page.click("#submit")
    page.wait_for_function(
        "() => document.querySelector('#player video')?.currentTime > 1", timeout=TIMEOUT_MS
    )


def show_idle(page: Page) -> None:
    """Shows what a new visitor sees."""
    page.get_by_text("Your video grows here").wait_for()


def show_mistakes(page: Page) -> None:
    """Shows an empty form after the button was pressed."""
    page.click("#submit")
    page.locator("#face-problem").wait_for()
    page.get_by_text("Your video grows here").wait_for()


def show_two_jobs(page: Page) -> None:
    """Enters two jobs, of which one waits for the other."""
    page.get_by_text("A portrait and a text").click()
    page.locator("#face a").wait_for()
    page.locator("#quality").get_by_label("draft").check()
    for text in ("Hello! I can say whatever you write.", "Another text."):
        page.fill("#text textarea", text)
        page.click("#submit")
        page.locator("#progress:focus").wait_for()
        page.locator("#jobs").get_by_text(text).wait_for()


def show_waiting(page: Page) -> None:
    show_two_jobs(page)
    page.locator("#bar").get_by_text("waiting for a GPU").wait_for(timeout=TIMEOUT_MS)


def show_done(page: Page) -> None:
    show_two_jobs(page)
    page.locator("#download-all").wait_for(timeout=TIMEOUT_MS)


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


def film(page: Page, path: Path) -> None:
    """Writes an animated picture, at twice the speed, of a video that grows and plays."""
    choose(page, face="portrait.png", audio1="speech.wav")
    page.locator("#quality").get_by_label("draft").check()
    frames = [screenshot(page)]
    page.click("#submit")
    done = page.locator("#bar").get_by_text("done")
    while not done.is_visible():
        frames.append(screenshot(page))
        page.wait_for_timeout(FRAME_MS)
    frames.append(screenshot(page))
    small = [frame.resize(FILM_SIZE, Image.Resampling.LANCZOS) for frame in frames]
    durations = [*[FRAME_MS // 2] * (len(small) - 1), 6 * FRAME_MS]
    small[0].save(
        path, save_all=True, append_images=small[1:], duration=durations, loop=0, quality=40
    )


def screenshot(page: Page) -> Image.Image:
    return Image.open(BytesIO(page.screenshot())).convert("RGB")


PHONE: Any = {"viewport": {"width": 390, "height": 844}}
DARK: Any = {"color_scheme": "dark"}
PICTURES: Mapping[str, tuple[Callable[[Page], None], Any]] = {
    "page-idle": (show_idle, {}),
    "page-dark": (show_idle, DARK),
    "page-error": (show_mistakes, {}),
    "page": (show_growing_video, {}),
    "boxes": (show_boxes, {}),
    "page-waiting": (show_waiting, {}),
    "page-done": (show_done, {}),
    "page-phone": (show_idle, PHONE),
}


def main(folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        open_supervisor(Settings(home=Path(home))) as supervisor,
        open_page(Farm(settings=supervisor.settings), ADDRESS),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*QUIET, *AUTOPLAY]
        )
        for name, (show, options) in PICTURES.items():
            page = browser.new_page(**{"viewport": VIEWPORT, **options})
            page.goto(ADDRESS.url)
            show(page)
            screenshot(page).quantize(128).save(folder / f"{name}.png", optimize=True)
            page.close()
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(ADDRESS.url)
        film(page, folder / "page.webp")
        browser.close()


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
