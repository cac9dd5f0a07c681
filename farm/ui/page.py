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
from farm.errors import FarmError, InvalidInput
from farm.job import JobStatus
from farm.ui import form, view
from farm.ui.inputs import QUIET, advanced, inputs
from farm.ui.video_cache import Shelf

LOOK_EVERY_S = 1.0
CLEARED_S = (3600, 86400)
"""How often uploads are cleared away, and how old they may become; the last ones go with the page."""
REMEMBERED = 20
"""Jobs that a browser keeps in its list."""


# No {{...}}: Gradio runs what that leaves as a JavaScript template, and a prompt may hold one.
JOBS = """${value.length ? '<b>My jobs</b>' : ''}${value.map((job) =>
`<button value="${job.id}" class="${job.chosen ? 'chosen' : ''}">${job.line}</button>`).join('')}"""
JOBS_CSS = """
button { display: block; width: 100%; margin-top: 6px; padding: 6px 10px; text-align: left; border-radius: 6px;
  border: 1px solid #8885; }
.chosen { background: #8882; border-color: currentColor; }
"""
CHOOSE = """element.addEventListener('click', (event) => {
  if (event.target.value) trigger('select', {job_id: event.target.value});
});"""


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
        with gr.Blocks(
            title="infinitetalk-farm", analytics_enabled=False, delete_cache=CLEARED_S
        ) as self.blocks:
            gr.Markdown("# Talking video\nA face and a voice in, a video out.")
            with gr.Row(equal_height=False):
                with gr.Column():
                    self.fields = {**inputs(), **advanced(form.usual(farm.context.settings.preset))}
                    self.submit = gr.Button("Make the video", variant="primary", elem_id="submit")
                    self.notice = gr.HTML(elem_id="notice")
                with gr.Column():
                    self._lay_job()
            self._wire()

    def _lay_job(self) -> None:
        self.mine = gr.BrowserState(
            [], storage_key="infinitetalk-farm-jobs", secret="infinitetalk-farm"
        )
        self.chosen, self.shown = gr.State(None), gr.State(Shown())
        self.bar = gr.HTML(elem_id="bar")
        self.player = gr.Video(
            label="The video, while it grows",
            streaming=True,
            interactive=False,
            autoplay=True,
            elem_id="player",
        )
        with gr.Row():
            self.download = gr.DownloadButton(
                "Download the MP4", interactive=False, elem_id="download"
            )
            self.cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id="cancel")
        self.jobs = gr.HTML(
            [],
            html_template=JOBS,
            css_template=JOBS_CSS,
            js_on_load=CHOOSE,
            padding=True,
            elem_id="jobs",
        )

    def _wire(self) -> None:
        entered: Any = {*self.fields.values(), self.mine}
        self.submit.click(self._submit, entered, [self.notice, self.mine, self.chosen], **QUIET)
        self.cancel.click(self._cancel, self.shown, None, **QUIET)
        self.jobs.select(_choose, None, self.chosen, **QUIET)
        looks = [self.blocks.load, gr.Timer(LOOK_EVERY_S).tick, self.chosen.change]
        outputs = [self.jobs, self.shown, self.bar, self.player, self.download, self.cancel]
        gr.on(looks, self._look, [self.mine, self.chosen, self.shown], outputs, **QUIET)

    def _submit(self, given: Mapping[Component, Any]) -> tuple[Any, ...]:
        filled = {name: given[component] for name, component in self.fields.items()}
        try:
            job = self.farm.submit(form.request(filled))
        except FarmError as error:
            return view.notice(error.code, error.message), gr.skip(), gr.skip()
        return "", [[job.id, filled["prompt"][:60]], *given[self.mine]][:REMEMBERED], job.id

    def _cancel(self, shown: Shown) -> None:
        if shown.job_id:
            self.farm.job(shown.job_id).cancel(by="the page")

    def _look(
        self, mine: list[list[str]], chosen: str | None, shown: Shown, request: gr.Request
    ) -> tuple[Any, ...]:
        """The visitor's jobs as they stand, and what is to be seen of the chosen one."""
        try:
            known = {job.id: (job, prompt) for job_id, prompt in mine if (job := self._job(job_id))}
            chosen = chosen if chosen in known else next(iter(known), None)
            lines = [
                view.line(job.status(), prompt, chosen=job.id == chosen)
                for job, prompt in known.values()
            ]
            return lines, *self._show(known[chosen][0] if chosen else None, shown, request)
        except FarmError as error:
            return gr.skip(), gr.skip(), view.notice(error.code, error.message), *[gr.skip()] * 3

    def _job(self, job_id: str) -> Job | None:
        """One of the visitor's jobs, unless the farm has forgotten it."""
        try:
            return self.farm.job(job_id)
        except InvalidInput:
            return None

    def _show(self, job: Job | None, shown: Shown, request: gr.Request) -> tuple[Any, ...]:
        """Bar, player, download and cancelling of a job; only what has changed since."""
        if job is None:
            return (
                Shown(),
                "",
                gr.update(value=None),
                gr.update(interactive=False),
                gr.update(interactive=False),
            )
        if shown == (job.id, shown.film, True):
            return (gr.skip(),) * 5
        status = job.status()
        film = self._film(job, status, shown.film if shown.job_id == job.id else None)
        made = str(self.shelf.finished(job)) if status.state == "success" else None
        return (
            Shown(job.id, film, status.ended),
            view.bar(status),
            gr.skip()
            if shown[:2] == (job.id, film)
            else gr.update(value=film and _served(film, request)),
            gr.update(value=made, interactive=made is not None),
            gr.update(interactive=not status.ended),
        )

    def _film(self, job: Job, status: JobStatus, playing: str | None) -> str | None:
        """What to play: what is made so far, or the finished video for somebody who comes later."""
        growing = self.shelf.growing(job)
        film = (
            self.shelf.finished(job)
            if status.state == "success" and not (playing and growing)
            else growing
        )
        return str(film) if film else None


def _choose(event: gr.EventData) -> str:
    job_id: str = event.job_id
    return job_id


def _served(path: str, request: gr.Request) -> dict[str, Any]:
    """A file of the shelf for the player, under the address by which this visitor's browser came here."""
    page = request.headers.get("referer", "")
    url = urljoin(page, f"gradio_api/file={quote(path)}")
    return FileData(path=url, url=url, is_stream=path.endswith(".m3u8")).model_dump()
