"""Who can use the page: with a keyboard or a screen reader, from other sites, by a password."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from farm import Farm
from farm.ui.serve import open_page
from tests.support.axe import axe_script, violations
from tests.support.page import TIMEOUT_MS, free_address, wait_for_bar, wait_for_player

THEMES: dict[str, Any] = {
    "a light desktop": {"viewport": {"width": 1280, "height": 900}},
    "a dark phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return axe_script(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("theme", THEMES)
def test_no_state_of_the_page_keeps_people_out(
    browser: Browser, url: str, farm: Farm, axe: str, theme: str
) -> None:
    page = browser.new_page(**THEMES[theme])
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(url)
    expect(page.get_by_text("Your video grows here")).to_be_visible()
    found = {"idle": violations(page, axe)}
    page.click("#submit")
    expect(page.locator("#face-problem")).to_be_visible()
    page.get_by_text("Advanced").click()
    expect(page.locator("#sample_steps")).to_be_visible()
    found["mistakes, and advanced fields"] = violations(page, axe)
    page.get_by_text("Advanced").click()
    page.get_by_role("button", name="A couple").click()
    expect(page.locator("#boxes .open img.face")).to_be_visible()
    expect(page.locator("#audio2")).to_contain_text("0:0")
    found["two speakers"] = violations(page, axe)
    page.get_by_role("button", name="A portrait and a text").click()
    page.locator("#quality").get_by_label("draft").check()
    page.click("#submit")
    wait_for_bar(page, "success")
    wait_for_player(page, "video.readyState >= 2")
    found["a video"] = violations(page, axe)
    page.get_by_role("button", name="Delete").click()
    found["the confirmation"] = violations(page, axe)
    page.close()
    assert found == {state: [] for state in found}


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
    with page.expect_navigation() as moved:
        page.evaluate("url => { location = `${url}config` }", url)
    assert moved.value.status == 403, "refused by the page itself, too"
    page.goto(url.replace("127.0.0.1", "localhost"))

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
