"""Jobs that are made on the page, and what is shown of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, Page, expect

from farm import Farm
from farm.local.broker import Broker
from farm.settings import Settings
from farm.ui.serve import open_page
from tests.support.holding import hold
from tests.support.page import TIMEOUT_MS, free_address, wait_for_bar, wait_for_player
from tests.support.small_farm import SmallFarm


def fill_form(page: Page, *, face: Path, voice: Path, **fields: Any) -> None:
    page.set_input_files("#face input[type=file]", face)
    page.set_input_files("#audio1 input[type=file]", voice)
    page.get_by_text("Advanced").click()
    page.locator("#quality").get_by_label("draft").check()
    small = {"sample_steps": 2, "frame_num": 21, "motion_frame": 5}
    for name, value in {**small, **fields}.items():
        page.locator(f"#{name} input, #{name} textarea").fill(str(value))
    expect(page.locator("#face")).to_contain_text(face.stem)
    expect(page.locator("#audio1")).to_contain_text("0:0")


def player_seconds(page: Page, attribute: str) -> float:
    return float(page.locator("#player video").evaluate(f"video => video.{attribute}"))


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
    expect(page.locator("#cancel")).to_be_hidden()
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
    page.get_by_role("option", name=label, exact=True).last.click()
    expect(page.locator(f"#{field} input")).to_have_value(label)


def test_a_voice_is_searched_for_and_heard(page: Page) -> None:
    page.locator("#voice").get_by_text("text, read aloud").click()
    choose_voice(page, "voice1", "deutsch", "German, Deutsch: de")

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


def test_an_example_is_made_on_a_phone(page: Page, farm: Farm) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for thumbnail in page.locator("#examples img").all():
        assert thumbnail.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.get_by_role("button", name="A portrait and a text").click()
    expect(page.locator("#face")).to_contain_text("portrait")
    expect(page.locator("#face")).not_to_contain_text("Hochladen")
    page.click("#submit")
    expect(page.locator("#bar .job")).to_be_visible()
    expect(page.locator("#bar")).to_be_in_viewport(ratio=1)
    expect(page.locator("#jobs .acts")).to_be_in_viewport()
    farm.job(farm.jobs(1)[0].job_id).cancel()


def test_a_job_entered_again_is_the_same_in_every_field(page: Page, farm: Farm) -> None:
    page.get_by_role("button", name="A couple").click()
    expect(page.locator("#audio2")).to_contain_text("0:0")
    page.locator("#voice").get_by_label("text, read aloud").check()
    page.locator("#text textarea").fill("(s1) Hello. (s2) Hi.")
    choose_voice(page, "voice1", "german", "German, Deutsch: de")
    choose_voice(page, "voice2", "french (france)", "French (France), Français: fr-fr")
    page.wait_for_function("() => document.querySelector('#boxes img.face').naturalWidth > 0")
    for corners in [((0.1, 0.2), (0.4, 0.8)), ((0.6, 0.1), (0.9, 0.7))]:
        draw_box(page, *corners)
    page.locator("#prompt textarea").fill("two people talk")
    page.locator("#quality").get_by_label("fast").check()
    page.get_by_text("Advanced").click()
    page.locator("#base_seed input").fill("7")
    page.locator("#sample_steps textarea").fill("3")
    page.locator("#use_apg input").check()
    first = entered(page, farm, jobs=1)

    page.get_by_role("button", name="A video with another voice").click()
    expect(page.locator("#boxes rect")).to_have_count(0)
    page.locator("#prompt textarea").fill("something else")
    page.locator("#quality").get_by_label("best").check()
    page.locator("#base_seed input").fill("8")
    page.locator("#sample_steps textarea").fill("4")
    page.locator("#use_apg input").uncheck()
    page.get_by_role("button", name="Again").click()

    expect(page.locator("#boxes rect")).to_have_count(2)
    second = entered(page, farm, jobs=2)
    assert second["bbox"] is not None
    assert second == first


def entered(page: Page, farm: Farm, *, jobs: int) -> dict[str, Any]:
    """Submits the visitor's next of so many jobs, and cancels it; its request, but for its key."""
    page.click("#submit")
    expect(page.locator("#jobs li")).to_have_count(jobs)
    job = farm.job(farm.jobs(1)[0].job_id)
    job.cancel()
    expect(page.locator("#jobs li").first).to_contain_text("cancelled")
    return job.request().model_dump(exclude={"idempotency_key"})


def test_all_videos_are_downloaded_at_once(page: Page) -> None:
    page.get_by_role("button", name="A portrait and a text").click()
    expect(page.locator("#text textarea")).not_to_be_empty()
    page.locator("#quality").get_by_label("draft").check()
    for number, text in enumerate(("One.", "Two."), start=1):
        page.locator("#text textarea").fill(text)
        page.click("#submit")
        expect(page.locator("#jobs li")).to_have_count(number)
        wait_for_bar(page, "success")
    with page.expect_download() as download:
        page.click("#download-all")
    with ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 2


def test_a_video_is_deleted_after_a_confirmation(page: Page, farm: Farm) -> None:
    page.get_by_role("button", name="A portrait and a text").click()
    expect(page.locator("#text textarea")).not_to_be_empty()
    page.click("#submit")
    expect(page.locator("#bar .job")).to_be_visible()
    (status,) = farm.jobs(1)
    delete = page.get_by_role("button", name="Delete")
    dialog = page.get_by_role("dialog")

    delete.click()
    expect(dialog).to_contain_text("Hello! I can say whatever you write.")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert status.job_id in farm.job_ids()
    expect(page.locator("#jobs li")).to_have_count(1)

    delete.click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.locator("#jobs li")).to_have_count(0)
    expect(page.get_by_text("Your video grows here")).to_be_visible()
    assert status.job_id not in farm.job_ids()


def test_an_outage_is_told_in_words_and_ends_by_itself(
    browser: Browser, tmp_path: Path, portrait: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(home=tmp_path / "home")
    broker = Broker(settings)
    address = free_address()
    told = "The farm does not answer. Nothing is lost"
    with open_page(Farm(broker.url, settings=settings), address):
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"{address.url}/")
        page.get_by_role("button", name="A portrait and a text").click()
        expect(page.locator("#text textarea")).not_to_be_empty()
        page.click("#submit")
        page.click("#cancel")
        wait_for_bar(page, "cancelled")

        broker.stop()
        expect(page.locator("#bar [role=alert]")).to_contain_text(told)
        page.click("#submit")
        expect(page.locator("#notice-problem [role=alert]")).to_contain_text(told)
        assert "127.0.0.1" not in page.locator("body").inner_text()
        assert caplog.messages.count("page_error") == 1

        broker = Broker(settings)
        wait_for_bar(page, "cancelled")
        page.close()
    broker.stop()
