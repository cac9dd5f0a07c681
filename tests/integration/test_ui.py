"""The page in a real browser, on a real farm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from farm import Farm
from farm.net.address import ListenAddress
from farm.ui.serve import open_page
from tests.support.holding import hold
from tests.support.ports import free_port
from tests.support.programs import installed_program
from tests.support.small_farm import SmallFarm

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
TIMEOUT_MS = 600_000
"""Tests wait for events; this is below pytest's own timeout, so that a failure names the event."""


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


def free_address() -> ListenAddress:
    return ListenAddress("127.0.0.1", free_port())


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


def fill_form(page: Page, *, face: Path, voice: Path, **fields: Any) -> None:
    page.set_input_files("#face input[type=file]", face)
    page.set_input_files("#audio1 input[type=file]", voice)
    page.get_by_text("Advanced").click()
    page.locator("#quality").get_by_text("draft").click()
    small = {"sample_steps": 2, "frame_num": 21, "motion_frame": 5}
    for name, value in {**small, **fields}.items():
        page.locator(f"#{name} input, #{name} textarea").fill(str(value))
    expect(page.locator("#face")).to_contain_text(face.stem)
    expect(page.locator("#audio1")).to_contain_text("0:0")


def wait_for_bar(page: Page, state: str) -> None:
    expect(page.locator("#bar .job")).to_have_attribute("data-state", state)


def player_seconds(page: Page, attribute: str) -> float:
    return float(page.locator("#player video").evaluate(f"video => video.{attribute}"))


def wait_for_player(page: Page, condition: str) -> None:
    """Returns once a JavaScript expression about `video` is true."""
    video = "const video = document.querySelector('#player video')"
    page.wait_for_function(f"() => {{ {video}; return video && {condition} }}")


def test_a_video_is_watched_while_it_grows_then_downloaded_and_there_after_a_reload(
    page: Page, supervisor: SmallFarm, farm: Farm, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    fill_form(page, face=portrait, voice=voice, prompt="a person says hello")
    expect(page.locator("#estimate")).to_contain_text("s of video")
    with hold(supervisor.settings, "chunk_1_sampling_50"):
        page.locator("#submit").dblclick()
        wait_for_bar(page, "running")
        expect(page.locator("#jobs li")).to_have_count(1)
        expect(page.locator("#bar")).to_be_in_viewport(ratio=1)
        expect(page.locator("#progress")).to_be_focused()
        expect(page.get_by_role("status").first).not_to_be_empty()

        wait_for_player(page, "video.readyState >= 2 && video.currentTime > 0.1")
        state = page.locator("#bar .job").get_attribute("data-state")
        assert state == "running", "it plays before it is finished"
        first = player_seconds(page, "duration")
    wait_for_player(page, f"video.duration > {first + 0.5} && video.currentTime > {first}")

    wait_for_bar(page, "success")
    (job,) = [farm.job(status.job_id) for status in farm.jobs(1)]
    with page.expect_download() as download:
        page.click("#download")
    saved = job.save(tmp_path / "saved.mp4")
    assert Path(download.value.path()).read_bytes() == saved.read_bytes()

    page.reload()
    title = f"{portrait.name} + {voice.name}: a person says hello"
    expect(page.locator("#jobs")).to_contain_text(title)
    expect(page.locator("#jobs")).to_contain_text("s of video · took ")
    page.wait_for_function("() => document.querySelector('#jobs img').naturalWidth > 0")
    wait_for_player(page, "video.readyState >= 2")
    seconds = job.result().params["frames"] / 25
    assert player_seconds(page, "duration") == pytest.approx(seconds, abs=0.1)


def test_a_prompt_is_shown_as_text_whatever_it_contains(
    page: Page, portrait: Path, voice: Path
) -> None:
    odd = r"`${1 + 1}` {{id}} \users <b>loud</b>"
    fill_form(page, face=portrait, voice=voice, prompt=odd, sample_steps=1000)
    page.click("#submit")
    expect(page.locator("#jobs")).to_contain_text(odd)
    page.click("#cancel")
    wait_for_bar(page, "cancelled")


def test_a_running_job_is_cancelled(page: Page, farm: Farm, portrait: Path, voice: Path) -> None:
    fill_form(page, face=portrait, voice=voice, sample_steps=1000)
    page.click("#submit")
    expect(page.locator("#bar")).to_contain_text("sampling")

    page.click("#cancel")

    wait_for_bar(page, "cancelled")
    expect(page.locator("#bar")).to_contain_text("It was cancelled by you")
    expect(page.locator("#cancel")).to_be_disabled()
    assert farm.jobs(1)[0].state == "cancelled"


def test_a_text_file_named_png_is_refused_with_the_reason(
    page: Page, voice: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "face.png"
    wrong.write_text("these are words")
    fill_form(page, face=wrong, voice=voice)

    page.click("#submit")

    reason = "The file holds text, not an image or a video"
    expect(page.locator("#face-problem [role=alert]")).to_contain_text(reason)
    expect(page.locator("#face-problem")).to_be_in_viewport(ratio=1)


def test_an_invalid_form_is_refused_at_once(
    page: Page, farm: Farm, portrait: Path, voice: Path
) -> None:
    before = farm.jobs(1)
    fill_form(page, face=portrait, voice=voice, frame_num=22)

    page.click("#submit")

    reason = page.locator("#advanced-problem [role=alert]")
    expect(reason).to_contain_text("Frames in a chunk: Got 22")
    expect(reason).to_have_attribute("title", "E_INPUT_VALIDATION")
    expect(reason).to_be_focused()
    assert farm.jobs(1) == before


def choose_voice(page: Page, field: str, search: str, label: str) -> None:
    """Chooses the voice of that label, by what is typed into the list."""
    page.locator(f"#{field} input").fill(search)
    page.get_by_role("option", name=label, exact=True).click()
    expect(page.locator(f"#{field} input")).to_have_value(label)


def test_a_voice_is_searched_for_and_heard(page: Page) -> None:
    page.locator("#voice").get_by_text("text, read aloud").click()
    choose_voice(page, "voice1", "german", "German: de")

    page.click("#listen1")

    player = page.locator("#sample1 audio")
    player.wait_for()
    page.wait_for_function("() => document.querySelector('#sample1 audio').currentTime > 0")


def test_boxes_drawn_over_the_image_or_entered_are_pixels_of_the_source(
    page: Page, farm: Farm, portrait: Path
) -> None:
    page.set_input_files("#face input[type=file]", portrait)
    page.locator("#speakers").get_by_text("two").click()
    page.locator("#voice").get_by_text("text, read aloud").click()
    page.locator("#text textarea").fill("(s1) Hello. (s2) Hi.")
    choose_voice(page, "voice1", "en-us-nyc", "English (America, New York City): en-us-nyc")
    expect(page.get_by_text("Draw a box")).to_be_visible()
    face = page.locator("#boxes img.face")
    page.wait_for_function("() => document.querySelector('#boxes img.face').naturalWidth > 0")
    for corners in [((0.1, 0.2), (0.4, 0.8)), ((0.9, 0.7), (0.6, 0.1))]:
        draw_box(page, *corners)
    expect(page.locator("#boxes rect")).to_have_count(2)

    right = page.locator("#boxes").get_by_label("right").first
    right.fill(str(int(right.input_value()) + 7))
    right.press("Tab")

    page.click("#submit")

    expect(page.locator("#bar .job")).to_be_visible()
    (status,) = farm.jobs(1)
    boxes = farm.context.registry.jobs.request(status.job_id).bbox
    farm.job(status.job_id).cancel()
    assert boxes is not None
    width = float(face.evaluate("face => face.naturalWidth"))
    height = float(face.evaluate("face => face.naturalHeight"))
    first = (0.1 * width, 0.2 * height, 0.4 * width + 7, 0.8 * height)
    second = (0.6 * width, 0.1 * height, 0.9 * width, 0.7 * height)
    assert boxes.person1 == pytest.approx(first, abs=2)
    assert boxes.person2 == pytest.approx(second, abs=2)


Corner = tuple[float, float]
"""Shares of the image's width and height."""


def draw_box(page: Page, start: Corner, end: Corner) -> None:
    shown = page.locator("#boxes img.face").bounding_box() or {}
    for (x, y), press in [(start, page.mouse.down), (end, page.mouse.up)]:
        position = {"x": x * shown["width"], "y": y * shown["height"]}
        page.locator("#boxes .stage").hover(position=position)
        press()


def test_an_example_is_made_on_a_phone_and_entered_again(page: Page, farm: Farm) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_text("A portrait and a text").click()
    expect(page.locator("#face")).to_contain_text("portrait")
    expect(page.locator("#face")).not_to_contain_text("Hochladen")
    page.click("#submit")
    expect(page.locator("#bar .job")).to_be_visible()
    expect(page.locator("#bar")).to_be_in_viewport(ratio=1)
    farm.job(farm.jobs(1)[0].job_id).cancel()
    page.locator("#text textarea").fill("Something else.")

    page.get_by_role("button", name="Again").click()

    expect(page.locator("#text textarea")).to_have_value("Hello! I can say whatever you write.")
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#jobs li")).to_have_count(0)


def test_what_the_keyboard_reaches_has_a_name_and_a_frame(page: Page) -> None:
    speakers = page.get_by_role("group", name="Speakers").get_by_role("radio").first
    page.locator("#face button").first.focus()
    page.keyboard.press("Tab")
    expect(speakers).to_be_focused()
    assert speakers.evaluate("radio => getComputedStyle(radio).outlineStyle") == "solid"


def test_another_site_can_link_to_the_page_but_not_use_it(page: Page, url: str) -> None:
    page.goto(url.replace("127.0.0.1", "localhost"))
    read = "url => fetch(`${url}config`).then(() => 'read', () => 'refused')"
    assert page.evaluate(read, url) == "refused"

    page.evaluate("url => { location = url }", url)
    page.wait_for_url(url)
    expect(page.locator("#submit")).to_be_visible()


def test_a_foreign_name_that_leads_to_the_page_is_refused(page: Page, url: str) -> None:
    answer = page.goto(url.replace("127.0.0.1", "evil.example"))
    assert answer is not None
    assert answer.status == 421


def test_a_page_with_a_password_shows_nothing_without_it(browser: Browser, farm: Farm) -> None:
    guarded = farm.context.settings.model_copy(update={"ui_auth": "ann:secret"})
    address = free_address()
    with open_page(Farm(settings=guarded), address):
        url = f"{address.url}/"
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        assert page.request.get(f"{url}gradio_api/file=/etc/hostname").status == 403
        assert page.request.get(f"{url}config").status == 401
        page.goto(url)
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#submit")).to_be_visible()
        assert page.request.get(f"{url}gradio_api/file=/etc/hostname").status == 403
        page.close()
