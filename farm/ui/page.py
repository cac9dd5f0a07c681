"""The page: on the left the request, on the right the progress of a job and its video."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
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
from farm.ui.video_cache import VideoCache

POLL_INTERVAL_S = 1.0
DELETE_UPLOADS_S = (3600, 86400)
"""How often uploads are deleted, and from which age; the last ones when the page is closed."""
MAX_JOBS = 20
"""Jobs in the list that a browser keeps."""
MAX_TITLE_LENGTH = 60
"""Characters of a prompt in that list."""


# No {{...}}: Gradio would run its content as a JavaScript template, and a prompt may contain one.
JOBS = """${value.length ? '<b>My jobs</b>' : ''}${value.map((job) =>
`<button value="${job.id}" class="${job.chosen ? 'chosen' : ''}">${job.line}</button>`).join('')}"""
JOBS_CSS = """
button { display: block; width: 100%; margin-top: 6px; padding: 6px 10px; text-align: left;
  border-radius: 6px; border: 1px solid #8885; }
.chosen { background: #8882; border-color: currentColor; }
"""
JOBS_JS = """element.addEventListener('click', (event) => {
  if (event.target.value) trigger('select', {job_id: event.target.value});
});"""


class Shown(NamedTuple):
    """What a visitor sees: a job, the video in the player, and whether the job had ended."""

    job_id: str | None = None
    video: str | None = None
    ended: bool = False


class Page:
    """The page of one farm. It holds no state of visitors: that is in their browsers."""

    def __init__(self, farm: Farm, root: Path) -> None:
        self.farm = farm
        self.videos = VideoCache(root)
        with gr.Blocks(
            title="infinitetalk-farm", analytics_enabled=False, delete_cache=DELETE_UPLOADS_S
        ) as self.blocks:
            gr.Markdown("# Talking video\nA face and a voice in, a video out.")
            with gr.Row(equal_height=False):
                with gr.Column():
                    self._add_request()
                with gr.Column():
                    self._add_job()
            self._connect()

    def _add_request(self) -> None:
        settings = self.farm.context.settings
        self.fields = {**inputs(settings), **advanced(_models(self.farm))}
        self.estimate = gr.HTML(elem_id="estimate")
        self.submit = gr.Button("Make the video", variant="primary", elem_id="submit")
        self.notice = gr.HTML(elem_id="notice")

    def _add_job(self) -> None:
        # The secret encrypts the list. A constant one lets it outlast a restart of the page; there
        # is nothing in it to hide from the browser that keeps it.
        self.own_jobs = gr.BrowserState(
            [],
            storage_key="infinitetalk-farm-jobs",
            secret="infinitetalk-farm",  # noqa: S106
        )
        self.chosen = gr.State(None)
        self.shown = gr.State(Shown())
        self.bar = gr.HTML(elem_id="bar")
        self.player = gr.Video(
            label="Preview (grows while the video is generated)",
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
            js_on_load=JOBS_JS,
            padding=True,
            elem_id="jobs",
        )

    def _connect(self) -> None:
        """Binds the handlers: buttons, the list of jobs, and a timer that refreshes the right."""
        entered: Any = {*self.fields.values(), self.own_jobs}
        changes = [field.change for field in self.fields.values() if hasattr(field, "change")]
        gr.on(changes, self._estimate, entered, self.estimate, trigger_mode="always_last", **QUIET)
        self.submit.click(self._submit, entered, [self.notice, self.own_jobs, self.chosen], **QUIET)
        self.cancel.click(self._cancel, self.shown, None, **QUIET)
        self.jobs.select(_choose, None, self.chosen, **QUIET)
        triggers = [self.blocks.load, gr.Timer(POLL_INTERVAL_S).tick, self.chosen.change]
        outputs = [self.jobs, self.shown, self.bar, self.player, self.download, self.cancel]
        gr.on(triggers, self._refresh, [self.own_jobs, self.chosen, self.shown], outputs, **QUIET)

    def _submit(self, entered: Mapping[Component, Any], request: gr.Request) -> tuple[Any, ...]:
        """Updates of the notice, the visitor's jobs and the chosen job."""
        values = self._values(entered)
        try:
            job = self._farm_of(request).submit(form.request_fields(values))
        except FarmError as error:
            return view.alert(error.code, error.message), gr.skip(), gr.skip()
        own_jobs = [[job.id, values["prompt"][:MAX_TITLE_LENGTH]], *entered[self.own_jobs]]
        return "", own_jobs[:MAX_JOBS], job.id

    def _estimate(self, entered: Mapping[Component, Any], request: gr.Request) -> str:
        """What the job would take; empty for a request that is not complete or not valid yet."""
        try:
            fields = form.request_fields(self._values(entered))
            return escape(str(self._farm_of(request).estimate(fields, max_cost=None)))
        except FarmError:
            return ""

    def _values(self, entered: Mapping[Component, Any]) -> dict[str, Any]:
        return {name: entered[component] for name, component in self.fields.items()}

    def _cancel(self, shown: Shown, request: gr.Request) -> None:
        if shown.job_id:
            self._farm_of(request).job(shown.job_id).cancel(by="the page")

    def _farm_of(self, request: gr.Request) -> Farm:
        """The farm as the visitor sees it, whose name is that of the login."""
        return self.farm.as_caller(request.username or self.farm.caller)

    def _refresh(
        self, own_jobs: list[list[str]], chosen: str | None, shown: Shown, request: gr.Request
    ) -> tuple[Any, ...]:
        """Updates of the list of jobs, `shown`, the bar, the player and the two buttons."""
        try:
            jobs = _known_jobs(self._farm_of(request), own_jobs)
            if chosen not in jobs:
                chosen = next(iter(jobs), None)
            items = [
                view.list_item(job.status(), prompt, chosen=job_id == chosen)
                for job_id, (job, prompt) in jobs.items()
            ]
            if chosen is None:
                return items, *_no_job()
            return items, *self._show(jobs[chosen][0], shown, request)
        except FarmError as error:
            return gr.skip(), gr.skip(), view.alert(error.code, error.message), *_unchanged(3)

    def _show(self, job: Job, shown: Shown, request: gr.Request) -> tuple[Any, ...]:
        """Updates of `shown`, the bar, the player and the two buttons."""
        if shown.job_id == job.id and shown.ended:
            return _unchanged(5)
        status = job.status()
        is_playing = shown.job_id == job.id and shown.video is not None
        video = self._video(job, status, is_playing=is_playing)
        player = gr.skip()
        # A new value would restart the player.
        if (shown.job_id, shown.video) != (job.id, video):
            player = gr.update(value=_file_data(video, request) if video else None)
        finished = None
        if status.state == "success":
            finished = str(self.videos.fetch_finished(job))
        return (
            Shown(job.id, video, status.ended),
            view.bar(status),
            player,
            gr.update(value=finished, interactive=finished is not None),
            gr.update(interactive=not status.ended),
        )

    def _video(self, job: Job, status: JobStatus, *, is_playing: bool) -> str | None:
        """The growing playlist, or the finished video for a visitor who did not watch it grow."""
        growing = self.videos.update_growing(job)
        if status.state == "success" and not (is_playing and growing):
            return str(self.videos.fetch_finished(job))
        return str(growing) if growing else None


def _models(farm: Farm) -> list[str]:
    """The models of the farm; without a broker those of FARM_PRESETS."""
    try:
        return farm.models()
    except FarmUnreachable:
        return list(farm.context.settings.presets)


def _known_jobs(farm: Farm, own_jobs: list[list[str]]) -> dict[str, tuple[Job, str]]:
    """The visitor's jobs with their prompts by id, without those that the farm has removed.

    The list comes from the browser, so it may be longer than the page makes it, and name jobs of
    others.
    """
    known = {}
    for job_id, prompt in own_jobs[:MAX_JOBS]:
        try:
            known[job_id] = (farm.job(job_id), prompt)
        except InvalidInput:
            continue
    return known


def _no_job() -> tuple[Any, ...]:
    """Updates of `shown`, the bar, the player and the two buttons for a visitor without jobs."""
    disabled = gr.update(interactive=False)
    return Shown(), "", gr.update(value=None), disabled, disabled


def _unchanged(outputs: int) -> tuple[Any, ...]:
    return (gr.skip(),) * outputs


def _choose(event: gr.EventData) -> str:
    job_id: str = event.job_id
    return job_id


def _file_data(path: str, request: gr.Request) -> dict[str, Any]:
    """A file of the cache for the player, at the URL by which this visitor reaches the page."""
    page = request.headers.get("referer", "")
    url = urljoin(page, f"gradio_api/file={quote(path)}")
    return FileData(path=url, url=url, is_stream=path.endswith(".m3u8")).model_dump()
