"""The page: on the left what to make, on the right how it is coming along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import gradio as gr
from gradio.components import Component
from gradio.data_classes import FileData

from farm.client import Farm, Job
from farm.errors import FarmError, FarmUnreachable, InvalidInput
from farm.job import JobStatus
from farm.ui import form, view
from farm.ui.inputs import QUIET, advanced, inputs
from farm.ui.shelf import Shelf

LOOK_EVERY_S = 1.0
CLEARED_S = (3600, 86400)
"""How often uploads are cleared away, and how old they may become; the last ones go with the page."""
REMEMBERED = 20
"""Jobs that a browser keeps in its list."""


class Shown(NamedTuple):
    """What a visitor sees: of which job, the film in the player, and whether the job had ended."""

    job_id: str | None = None
    film: str | None = None
    ended: bool = False


class Page:
    """One farm's page. Its handlers hold nothing of a visitor: that is in his browser."""

    def __init__(self, farm: Farm, root: Path) -> None:
        self.farm = farm
        self.shelf = Shelf(root)
        with gr.Blocks(title="infinitetalk-farm", analytics_enabled=False, delete_cache=CLEARED_S) as self.blocks:
            gr.Markdown("# Talking video\nA face and a voice in, a video out.")
            with gr.Row(equal_height=False):
                with gr.Column():
                    self.fields = {**inputs(), **advanced()}
                    self.submit = gr.Button("Make the video", variant="primary", elem_id="submit")
                    self.notice = gr.HTML(elem_id="notice")
                with gr.Column():
                    self._lay_job()
            self._wire()

    def _lay_job(self) -> None:
        self.mine = gr.BrowserState([], storage_key="infinitetalk-farm-jobs", secret="infinitetalk-farm")  # noqa: S106
        self.shown = gr.State(Shown())
        self.bar = gr.HTML(elem_id="bar")
        self.player = gr.Video(
            label="The video, while it grows", streaming=True, interactive=False, autoplay=True, elem_id="player"
        )
        with gr.Row():
            self.download = gr.DownloadButton("Download the MP4", interactive=False, elem_id="download")
            self.cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id="cancel")
        self.jobs = gr.Radio([], label="My jobs", elem_id="jobs")

    def _wire(self) -> None:
        shown, timer = [self.shown, self.bar, self.player, self.download, self.cancel], gr.Timer(LOOK_EVERY_S)
        entered: Any = {*self.fields.values(), self.mine}
        self.submit.click(self._submit, entered, [self.notice, self.mine, self.jobs], **QUIET)
        self.cancel.click(self._cancel, self.jobs, None, **QUIET)
        gr.on([self.blocks.load, timer.tick], self._list, [self.mine, self.jobs], [self.mine, self.jobs], **QUIET)
        gr.on([timer.tick, self.jobs.change], self._look, [self.jobs, self.shown], shown, **QUIET)

    def _submit(self, given: Mapping[Component, Any]) -> tuple[Any, ...]:
        mine = given[self.mine] or []
        filled = {name: given[component] for name, component in self.fields.items()}
        try:
            job = self.farm.submit(form.request(filled))
        except FarmError as error:
            return view.notice(error.code, error.message), gr.skip(), gr.skip()
        mine = [[job.id, filled["prompt"][:60]], *mine][:REMEMBERED]
        return "", mine, gr.Radio(self._choices(mine), value=job.id)

    def _cancel(self, job_id: str | None) -> None:
        if job_id:
            self.farm.job(job_id).cancel(by="the page")

    def _list(self, mine: list[list[str]] | None, chosen: str | None) -> tuple[Any, ...]:
        """The visitor's jobs as they stand; those that the farm has forgotten go."""
        try:
            choices = self._choices(mine or [])
        except FarmUnreachable:
            return gr.skip(), gr.skip()
        known = [job_id for _, job_id in choices]
        left = [each for each in mine or [] if each[0] in known]
        radio = gr.Radio(choices, value=chosen if chosen in known else next(iter(known), None))
        return left if left != mine else gr.skip(), radio

    def _choices(self, mine: list[list[str]]) -> list[tuple[str, str]]:
        return [(view.line(status, prompt), job_id) for job_id, prompt in mine if (status := self._status(job_id))]

    def _status(self, job_id: str) -> JobStatus | None:
        try:
            return self.farm.job(job_id).status()
        except InvalidInput:
            return None

    def _look(self, chosen: str | None, shown: Shown, request: gr.Request) -> tuple[Any, ...]:
        """How the chosen job stands: the bar while it runs, the player and the rest when they change."""
        if chosen is None:
            return Shown(), "", gr.update(value=None), gr.update(interactive=False), gr.update(interactive=False)
        if shown == (chosen, shown.film, True):
            return (gr.skip(),) * 5
        try:
            job = self.farm.job(chosen)
            status = job.status()
            film = self._film(job, status, shown.film if shown.job_id == chosen else None)
            made = str(self.shelf.finished(job)) if status.state == "success" else None
        except FarmError as error:
            return gr.skip(), view.notice(error.code, error.message), gr.skip(), gr.skip(), gr.skip()
        return (
            Shown(chosen, film, status.ended),
            view.bar(status),
            gr.skip() if shown[:2] == (chosen, film) else gr.update(value=film and _served(film, request)),
            gr.update(value=made, interactive=made is not None),
            gr.update(interactive=not status.ended),
        )

    def _film(self, job: Job, status: JobStatus, playing: str | None) -> str | None:
        """What to play: what is made so far, or the finished video for somebody who comes later."""
        growing = self.shelf.growing(job)
        film = self.shelf.finished(job) if status.state == "success" and not (playing and growing) else growing
        return str(film) if film else None


def _served(path: str, request: gr.Request) -> dict[str, Any]:
    """A file of the shelf for the player, under the address by which this visitor's browser came here."""
    page = request.headers.get("referer", "")
    url = urljoin(page, f"gradio_api/file={quote(path)}")
    return FileData(path=url, url=url, is_stream=path.endswith(".m3u8")).model_dump()
