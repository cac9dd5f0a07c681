"""What Gradio reports late or more than once, while a visitor goes on: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request, Route, expect

from farm import Farm
from farm.ui.boxes import FOR_FACE


@contextmanager
def held(page: Page, is_held: Callable[[Request], bool]) -> Iterator[list[Route]]:
    """Such requests of the page wait until the block ends; yields those that do."""
    waiting: list[Route] = []

    def answer(route: Route) -> None:
        if is_held(route.request):
            waiting.append(route)
        else:
            route.continue_()

    page.route("**/gradio_api/**", answer)
    yield waiting
    for route in waiting:
        route.continue_()
    page.unroute("**/gradio_api/**")


def calls(page: Page, element: str, event: str) -> Callable[[Request], bool]:
    """Whether a request calls the handler of an element's event."""
    find = """async ([element, event]) => {
      const config = await fetch('config').then((answer) => answer.json());
      const {id} = config.components.find(({props}) => props.elem_id === element);
      const listens = ({targets}) => targets.some(([at, name]) => at === id && name === event);
      return config.dependencies.find(listens).id;
    }"""
    number = page.evaluate(find, [element, event])
    return lambda request: f'"fn_index":{number},' in (request.post_data or "")


def wait_for_requests(page: Page, waiting: list[Route], count: int = 1) -> None:
    while len(waiting) < count:
        page.evaluate("() => new Promise(requestAnimationFrame)")  # lets Playwright take events


def test_a_visitor_who_types_elsewhere_keeps_the_focus(
    page: Page, farm: Farm, portrait: Path
) -> None:
    prompt = page.locator("#prompt textarea")
    prompt.fill("")
    with held(page, lambda request: "/upload" in request.url) as uploads:
        page.set_input_files("#face input[type=file]", portrait)
        wait_for_requests(page, uploads)
        prompt.press_sequentially("a woman ")
    expect(page.locator("#face")).to_contain_text(portrait.stem)
    page.keyboard.type("talks ")
    expect(prompt).to_have_value("a woman talks ")

    page.locator("#voice").get_by_text("text, read aloud").click()
    page.locator("#text textarea").fill("Hello.")
    with held(page, calls(page, "submit", "click")) as submissions:
        page.click("#submit")
        wait_for_requests(page, submissions)
        prompt.press_sequentially("to ")
    expect(page.locator("#submit")).to_be_enabled()
    expect(page.locator("#jobs li")).to_have_count(1)
    page.keyboard.type("us")
    expect(prompt).to_have_value("a woman talks to us")
    farm.job(farm.jobs(1)[0].job_id).cancel()


def test_nothing_is_typed_into_a_request_that_is_being_filled_in(page: Page) -> None:
    page.locator("#voice").get_by_text("text, read aloud").click()
    text = page.locator("#text textarea")
    example = page.get_by_role("button", name="A portrait and a text")
    with held(page, calls(page, "examples", "select")) as selections:
        example.click()
        wait_for_requests(page, selections)
        assert page.locator("#request").evaluate("request => request.inert")
    expect(text).to_have_value("Hello! I can say whatever you write.")
    expect(example).to_be_focused()
    text.press_sequentially(" ")


def test_deletions_and_a_submission_at_once_all_count(page: Page, farm: Farm) -> None:
    page.get_by_role("button", name="A portrait and a text").click()
    expect(page.locator("#text textarea")).not_to_be_empty()
    for number in (1, 2):
        page.locator("#text textarea").fill(f"text {number}")
        page.click("#submit")
        expect(page.locator("#jobs li")).to_have_count(number)
    with held(page, calls(page, "jobs", "delete")) as deletions:
        for number in range(2):
            page.get_by_role("button", name="Delete").nth(number).click()
            page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
            wait_for_requests(page, deletions, number + 1)
        page.locator("#text textarea").fill("text 3")
        page.click("#submit")
        expect(page.locator("#jobs li")).to_have_count(3)
    expect(page.locator("#jobs li")).to_have_count(1)
    expect(page.locator("#jobs")).to_contain_text("text 3")
    page.reload()
    expect(page.locator("#jobs")).to_contain_text("text 3")
    farm.job(farm.jobs(1)[0].job_id).cancel()


def boxes_for(page: Page, file: Any, boxes: Any, restored: Any) -> Any:
    return page.evaluate(f"values => ({FOR_FACE})(...values)", [file, boxes, restored])


IMAGE = {"url": "/a.png", "path": "a.png", "orig_name": "a.png"}
CLIP = {"url": "/b.mp4", "path": "b.mp4", "orig_name": "b.MP4"}


def test_a_face_that_is_reported_again_keeps_its_boxes(page: Page) -> None:
    chosen = boxes_for(page, IMAGE, {}, {})
    drawn = chosen | {"person1": [1, 2, 3, 4]}
    assert boxes_for(page, IMAGE, drawn, {}) == drawn
    assert boxes_for(page, CLIP, drawn, {}) == {"face": "/b.mp4", "video": True}
    assert boxes_for(page, None, drawn, {}) == {}


def test_restored_boxes_are_those_of_their_face_whatever_is_reported_first(page: Page) -> None:
    restored = {"path": "a.png", "person1": [1, 2, 3, 4], "person2": [5, 6, 7, 8]}
    for earlier in ({}, {"face": "/b.mp4", "video": True}, boxes_for(page, IMAGE, {}, {})):
        shown = boxes_for(page, IMAGE, earlier, restored)
        assert shown == {"face": "/a.png", "video": False, **restored}
    drawn = shown | {"person1": [9, 9, 10, 10]}
    assert boxes_for(page, IMAGE, drawn, restored) == drawn
    assert boxes_for(page, CLIP, drawn, restored) == {"face": "/b.mp4", "video": True}
