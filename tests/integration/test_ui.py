"""The page in a real browser, on a real farm."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from farm import Farm
from farm.net.address import Address
from farm.ui.serve import open_page
from tests.support.programs import program

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
SOON_MS = 20_000
JOB_MS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    installed = program(*BROWSERS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed, args=FLAGS)
        yield browser
        browser.close()


def free_address() -> Address:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return Address(*listener.getsockname())


@pytest.fixture(scope="module")
def address(farm: Farm) -> Iterator[str]:
    where = free_address()
    with open_page(farm, where):
        yield f"{where.url}/"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(SOON_MS)
    page.goto(address)
    expect(page.locator("#submit")).to_be_visible(timeout=SOON_MS)
    yield page
    context.close()


def fill(page: Page, *, face: Path, voice: Path, **fields: Any) -> None:
    page.set_input_files("#face input[type=file]", face)
    page.set_input_files("#audio1 input[type=file]", voice)
    page.get_by_text("Advanced").click()
    page.locator("#preset").get_by_text("draft").click()
    expect(page.locator("#sample_steps input")).to_have_value("4")
    small = {"sample_steps": 2, "frame_num": 21, "motion_frame": 5}
    for name, value in {**small, **fields}.items():
        page.locator(f"#{name} input, #{name} textarea").fill(str(value))
    expect(page.locator("#face")).to_contain_text(face.stem)
    expect(page.locator("#audio1")).to_contain_text("0:0", timeout=SOON_MS)


def player(page: Page, what: str) -> float:
    return float(page.locator("#player video").evaluate(f"video => video.{what}"))


def until_player(page: Page, wanted: str) -> None:
    page.wait_for_function(
        f"() => {{ const video = document.querySelector('#player video'); return video && {wanted} }}", timeout=JOB_MS
    )


def test_a_video_is_watched_while_it_grows_then_taken_home_and_still_there_after_a_reload(
    page: Page, farm: Farm, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    fill(page, face=portrait, voice=voice, prompt="a person says hello")
    page.click("#submit")
    bar = page.locator("#bar .job")
    expect(bar).to_have_attribute("data-state", "running", timeout=SOON_MS)

    until_player(page, "video.readyState >= 2 && video.currentTime > 0.1")
    assert bar.get_attribute("data-state") == "running", "it plays before it is finished"
    first = player(page, "duration")
    until_player(page, f"video.duration > {first + 0.5} && video.currentTime > {first}")

    expect(bar).to_have_attribute("data-state", "success", timeout=JOB_MS)
    (job,) = [farm.job(status.job_id) for status in farm.jobs(1)]
    with page.expect_download() as download:
        page.click("#download")
    assert Path(download.value.path()).read_bytes() == job.save(tmp_path / "own.mp4").read_bytes()

    page.reload()
    expect(page.locator("#jobs")).to_contain_text(f"a person says hello · success · {job.id}", timeout=SOON_MS)
    until_player(page, "video.readyState >= 2")
    assert player(page, "duration") == pytest.approx(job.result().params["frames"] / 25, abs=0.1)


def test_a_prompt_is_text_in_the_list_whatever_it_holds(page: Page, farm: Farm, portrait: Path, voice: Path) -> None:
    odd = r"`${1 + 1}` {{id}} \users <b>loud</b>"
    fill(page, face=portrait, voice=voice, prompt=odd)
    page.click("#submit")
    expect(page.locator("#jobs")).to_contain_text(odd, timeout=SOON_MS)
    page.click("#cancel")
    expect(page.locator("#bar .job")).to_have_attribute("data-state", "cancelled", timeout=SOON_MS)


def test_a_running_job_is_cancelled(page: Page, farm: Farm, portrait: Path, voice: Path) -> None:
    fill(page, face=portrait, voice=voice, sample_steps=1000)
    page.click("#submit")
    expect(page.locator("#bar")).to_contain_text("sampling", timeout=JOB_MS)

    page.click("#cancel")

    expect(page.locator("#bar .job")).to_have_attribute("data-state", "cancelled", timeout=SOON_MS)
    expect(page.locator("#bar [role=alert]")).to_contain_text("cancelled by the page")
    expect(page.locator("#cancel")).to_be_disabled()
    assert farm.jobs(1)[0].state == "cancelled"


def test_a_text_file_named_png_is_refused_with_the_reason(page: Page, voice: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "face.png"
    wrong.write_text("these are words")
    fill(page, face=wrong, voice=voice)

    page.click("#submit")

    why = "cond_video: the file holds text, not an image or a video"
    expect(page.locator("#bar [role=alert]")).to_contain_text(why, timeout=JOB_MS)


def test_what_cannot_become_a_job_is_said_at_once(page: Page, farm: Farm, portrait: Path, voice: Path) -> None:
    before = farm.jobs(1)
    fill(page, face=portrait, voice=voice, frame_num=22)

    page.click("#submit")

    expect(page.locator("#notice [role=alert]")).to_contain_text("frame_num: got 22", timeout=SOON_MS)
    assert farm.jobs(1) == before


def test_boxes_drawn_over_the_picture_are_pixels_of_the_source(page: Page, farm: Farm, portrait: Path) -> None:
    page.set_input_files("#face input[type=file]", portrait)
    page.locator("#speakers").get_by_text("two").click()
    page.locator("#voice").get_by_text("text", exact=True).click()
    page.locator("#text textarea").fill("(s1) Hello. (s2) Hi.")
    for name, voice in {"voice1": "en-us", "voice2": "en-gb"}.items():
        page.locator(f"#{name} input, #{name} textarea").fill(voice)
    expect(page.get_by_text("Draw a box")).to_be_visible(timeout=SOON_MS)
    face = page.locator("#boxes img.face")
    page.wait_for_function("() => document.querySelector('#boxes img.face').naturalWidth > 0")
    shown = face.bounding_box() or {}
    width, height = (float(face.evaluate(f"face => face.natural{side}")) for side in ("Width", "Height"))
    for corners in [((0.1, 0.2), (0.4, 0.8)), ((0.9, 0.7), (0.6, 0.1))]:
        for (x, y), act in zip(corners, (page.mouse.down, page.mouse.up), strict=True):
            page.locator("#boxes .stage").hover(position={"x": x * shown["width"], "y": y * shown["height"]})
            act()
    expect(page.locator("#boxes rect")).to_have_count(2)

    page.click("#submit")

    expect(page.locator("#bar .job")).to_be_visible(timeout=SOON_MS)
    (status,) = farm.jobs(1)
    boxes = farm.context.registry.jobs.request(status.job_id).bbox
    farm.job(status.job_id).cancel()
    assert boxes is not None
    assert boxes.person1 == pytest.approx((0.1 * width, 0.2 * height, 0.4 * width, 0.8 * height), abs=2)
    assert boxes.person2 == pytest.approx((0.6 * width, 0.1 * height, 0.9 * width, 0.7 * height), abs=2)


def test_behind_a_password_nobody_else_sees_page_or_files(browser: Browser, farm: Farm) -> None:
    guarded = farm.context.settings.model_copy(update={"ui_auth": "ann:secret"})
    where = free_address()
    with open_page(Farm(settings=guarded), where):
        address = f"{where.url}/"
        page = browser.new_page()
        assert page.request.get(f"{address}gradio_api/file=/etc/hostname").status == 401
        assert page.request.get(f"{address}config").status == 401
        page.goto(address)
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#submit")).to_be_visible(timeout=SOON_MS)
        assert page.request.get(f"{address}gradio_api/file=/etc/hostname").status == 403
        page.close()
