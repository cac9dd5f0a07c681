"""The page: on the left the request, on the right the progress of a job and its video."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import gradio as gr
from gradio.components import Component
from gradio.data_classes import FileData

from farm.client import Farm, Job
from farm.errors import FarmError, FarmUnreachable, InvalidInput, UnknownJob
from farm.job import JobStatus
from farm.ui import examples, form, view
from farm.ui.again import settings_of
from farm.ui.history import history, item
from farm.ui.inputs import EACH, QUIET, add_inputs
from farm.ui.page_log import PageLog
from farm.ui.problems import mistakes
from farm.ui.video_cache import VideoCache
from farm.ui.waiting import waiting

POLL_INTERVAL_S = 1.0
DELETE_UPLOADS_S = (3600, 86400)
"""How often uploads are deleted, and from which age; the last ones when the page is closed."""
MAX_JOBS = 20
"""Jobs in the list that a browser keeps."""

ENTERING = """(...values) => {
  document.getElementById('submit').disabled = true;
  return values;
}"""
ENTERED = """() => setTimeout(() => {
  const submit = document.getElementById('submit');
  submit.disabled = false;
  if (![submit, document.body].includes(document.activeElement)) return;
  const mistake = document.querySelector('#request .problem');
  const shown = mistake ?? document.getElementById('progress');
  shown.tabIndex = -1;
  shown.focus({preventScroll: true});
  const {top} = shown.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) shown.scrollIntoView({block: mistake ? 'center' : 'start'});
}, 100)"""
"""Brings the first mistake into view, or else the progress, once Gradio has drawn it; unless the
visitor is at work elsewhere by then.
"""
FOCUS = """() => document.activeElement === document.body
&& document.querySelector('#%s button, #%s a')?.focus()"""
"""After an upload, whose button is gone, the focus would begin at the top of the page. Who types
elsewhere by then keeps it.
"""
FILLING = """(...values) => {
  const request = document.getElementById('request');
  request.focused = document.activeElement;
  request.inert = true;
  return values;
}"""
FILLED = """() => {
  const request = document.getElementById('request');
  request.inert = false;
  if (document.activeElement === document.body) request.focused.focus({preventScroll: true});
}"""
"""Nothing can be entered while the request is filled in, which would replace it."""
FORGET = "(jobs, deleted) => [jobs.filter(([id]) => id !== deleted.job_id)]"
"""In the browser, whose list may have changed while the deletion was answered."""
SAVE = """(archive) => {
  if (!archive) return;
  const link = document.createElement('a');
  [link.href, link.download] = [archive.url, archive.orig_name];
  link.click();
}"""


class Shown(NamedTuple):
    """What a visitor sees: a job, the video in the player, and whether the job had ended."""

    job_id: str | None = None
    video: str | None = None
    ended: bool = False


class Page:
    """The page of one farm. It holds no state of visitors: that is in their browsers."""

    def __init__(self, farm: Farm, *, videos: Path, uploads: Path, media: Path) -> None:
        """`videos`, `uploads` and `media` are the folders of what it serves, the last with the
        faces of the examples.
        """
        self.farm = farm
        self.videos = VideoCache(videos)
        self.uploads = uploads
        self.log = PageLog()
        models = _models(farm)
        with gr.Blocks(
            title="infinitetalk-farm", analytics_enabled=False, delete_cache=DELETE_UPLOADS_S
        ) as self.blocks:
            gr.Markdown("# Talking video\nA face and a voice in, a video out.")
            gr.HTML(view.models(models), elem_id="models")
            with gr.Row(equal_height=False):
                with gr.Column(elem_id="request"):
                    self.examples = examples.examples(media)
                    self._add_request(models)
                with gr.Column(elem_id="progress"):
                    self._add_job()
            self._connect_request()
            self._connect_jobs()
            self._connect_progress()

    def _add_request(self, models: list[str]) -> None:
        inputs = add_inputs(self.farm.context.settings, models)
        self.fields = inputs.fields
        self.estimate = gr.HTML(elem_id="estimate")
        self.submit = gr.Button("Make the video", variant="primary", elem_id="submit")
        inputs.add_problem("notice")
        self.problems = inputs.problems
        self.restored = inputs.restored

    def _add_job(self) -> None:
        # The secret encrypts the list. A constant one lets it outlast a restart of the page; there
        # is nothing in it to hide from the browser that keeps it.
        self.own_jobs = gr.BrowserState(
            [],
            storage_key="infinitetalk-farm-jobs",
            secret="infinitetalk-farm",  # noqa: S106
        )
        self.chosen = gr.State(None)
        self.deleted = gr.JSON({}, visible="hidden")
        self.shown = gr.State(Shown())
        self.spoken = gr.HTML(
            html_template='<p role="status">${value}</p>', elem_id="spoken", apply_default_css=False
        )
        self.bar = gr.HTML(elem_id="bar")
        self.player = gr.Video(
            show_label=False,
            buttons=[],
            streaming=True,
            interactive=False,
            autoplay=True,
            visible=False,
            elem_id="player",
        )
        self.download = gr.DownloadButton("Download the MP4", visible=False, elem_id="download")
        self.cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
        self.jobs = history()
        self.download_all = gr.Button("Download all", visible=False, elem_id="download-all")
        self.archive = gr.DownloadButton(visible="hidden", elem_id="archive")

    def _connect_request(self) -> None:
        """Binds what fills the request in, estimates and submits it."""
        entered: Any = {*self.fields.values(), self.own_jobs}
        changes = [field.change for field in self.fields.values() if hasattr(field, "change")]
        gr.on(changes, self._estimate, entered, self.estimate, trigger_mode="always_last", **QUIET)
        outputs = [self.own_jobs, self.chosen, *self.problems.values()]
        self.submit.click(self._submit, entered, outputs, js=ENTERING, **QUIET).then(
            None, js=ENTERED
        )
        for name in form.FILES:
            self.fields[name].upload(None, js=FOCUS % (name, name))  # type: ignore[attr-defined]
        outputs = [*self.fields.values(), *self.problems.values()]
        self.examples.select(self._example, None, outputs, js=FILLING, **QUIET).then(
            None, js=FILLED
        )

    def _connect_jobs(self) -> None:
        """Binds the buttons of the shown job and of the list."""
        self.cancel.click(self._cancel, self.shown, self.bar, **QUIET)
        self.jobs.select(_choose, None, self.chosen, **EACH)
        outputs = [self.restored, *self.fields.values(), *self.problems.values()]
        self.jobs.copy(self._again, self.own_jobs, outputs, js=FILLING, **QUIET).then(
            None, js=FILLED
        ).then(None, js="() => document.getElementById('request').scrollIntoView()")
        self.jobs.delete(self._delete, None, [self.deleted, self.bar], **EACH).then(
            None, [self.own_jobs, self.deleted], self.own_jobs, js=FORGET
        )
        archive = [self.archive, self.bar]
        self.download_all.click(self._archive, self.own_jobs, archive, **QUIET).then(
            None, self.archive, js=SAVE
        )

    def _connect_progress(self) -> None:
        """Binds what is refreshed by a timer, and at once after a choice."""
        triggers = [
            self.blocks.load,
            gr.Timer(POLL_INTERVAL_S).tick,
            self.chosen.change,
            self.own_jobs.change,
        ]
        outputs = [
            self.jobs,
            self.download_all,
            self.shown,
            self.spoken,
            self.bar,
            self.player,
            self.download,
            self.cancel,
        ]
        gr.on(triggers, self._refresh, [self.own_jobs, self.chosen, self.shown], outputs, **QUIET)

    def _submit(self, entered: Mapping[Component, Any], request: gr.Request) -> tuple[Any, ...]:
        """Updates of the visitor's jobs, the chosen job and the mistakes."""
        values = self._values(entered)
        try:
            fields = form.request_fields(values)
            job = _submit_once(self._farm_of(request), fields, request.session_hash or "")
        except FarmError as error:
            return gr.skip(), gr.skip(), *self._show_problems(error)
        earlier = [each for each in entered[self.own_jobs] if each[0] != job.id]
        own_jobs = [[job.id, form.title(values), form.file_names(values)], *earlier]
        return own_jobs[:MAX_JOBS], job.id, *self._show_problems(None)

    def _show_problems(self, error: FarmError | None) -> list[Any]:
        """Updates of the places for mistakes."""
        found = {}
        if error:
            self.log.note(error)
            found = mistakes(error)
        return [
            gr.update(
                value=view.problem(found[place], error.code) if error and place in found else "",
                visible=place in found,
            )
            for place in self.problems
        ]

    def _estimate(self, entered: Mapping[Component, Any], request: gr.Request) -> str:
        """What the job would take; empty for a request that is not complete or not valid yet."""
        try:
            fields = form.request_fields(self._values(entered))
            return view.estimate(self._farm_of(request).estimate(fields, max_cost=None))
        except FarmError:
            return ""

    def _values(self, entered: Mapping[Component, Any]) -> dict[str, Any]:
        return {name: entered[component] for name, component in self.fields.items()}

    def _example(self, event: gr.EventData) -> list[Any]:
        """Updates of the inputs, and of the places for mistakes."""
        values = examples.example(event.label, self.uploads)
        return [*self._fill(values), *self._show_problems(None)]

    def _again(
        self, own_jobs: list[list[Any]], event: gr.EventData, request: gr.Request
    ) -> list[Any]:
        """The boxes of a job with the path of their face, and updates of the inputs, for its other
        settings, and of the places for mistakes.
        """
        job_id = event.job_id
        names: Any = next((each[2] for each in own_jobs if each[0] == job_id and each[2:]), {})
        try:
            job = self._farm_of(request).job(job_id)
            values = settings_of(job, names, self.uploads)
        except FarmError as error:
            return [gr.skip(), *_unchanged(len(self.fields)), *self._show_problems(error)]
        boxes = {**values.pop("boxes"), "path": values["face"]}
        return [boxes, *self._fill(values), *self._show_problems(None)]

    def _fill(self, values: Mapping[str, Any]) -> list[Any]:
        """Updates of the inputs; those without a value stay as they are."""
        return [
            gr.update(value=values[name]) if name in values else gr.skip() for name in self.fields
        ]

    def _cancel(self, shown: Shown, request: gr.Request) -> Any:
        """An update of the progress, for an error."""
        if shown.job_id:
            try:
                self._farm_of(request).job(shown.job_id).cancel(by="you")
            except FarmError as error:
                return self._alert(error)
        return gr.skip()

    def _delete(self, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        """The `job_id` that is deleted, and an update of the progress, for an error."""
        job_id = event.job_id
        try:
            with suppress(UnknownJob):
                self._farm_of(request).delete([job_id], by="you")
                self.videos.delete(job_id)
        except FarmError as error:
            return gr.skip(), self._alert(error)
        return {"job_id": job_id}, gr.skip()

    def _archive(self, own_jobs: list[list[Any]], request: gr.Request) -> tuple[Any, Any]:
        """Updates of the button that downloads all videos of the list, and of the progress."""
        try:
            jobs = _known_jobs(self._farm_of(request), own_jobs)
            made = [job for job, _ in jobs.values() if job.status().state == "success"]
            return str(self.videos.archive(made)), gr.skip()
        except FarmError as error:
            return None, self._alert(error)

    def _alert(self, error: FarmError) -> str:
        """What a visitor is told of an error; its cause is for the operator."""
        self.log.note(error)
        return view.alert(error)

    def _farm_of(self, request: gr.Request) -> Farm:
        """The farm as the visitor sees it, whose name is that of the login."""
        return self.farm.as_caller(request.username or self.farm.caller)

    def _refresh(
        self, own_jobs: list[list[Any]], chosen: str | None, shown: Shown, request: gr.Request
    ) -> tuple[Any, ...]:
        """Updates of the list with its button, `shown`, both progresses, player and buttons."""
        farm = self._farm_of(request)
        try:
            jobs = _known_jobs(farm, own_jobs)
            if chosen not in jobs:
                chosen = next(iter(jobs), None)
            statuses = {job_id: job.status() for job_id, (job, _) in jobs.items()}
            items = [
                item(
                    statuses[job_id],
                    title,
                    chosen=job_id == chosen,
                    kept=farm.keeps_jobs,
                    image=self._thumbnail(job, statuses[job_id], request),
                )
                for job_id, (job, title) in jobs.items()
            ]
            made = sum(status.state == "success" for status in statuses.values())
            listed = items, gr.update(visible=made > 1)
            if chosen is None:
                return *listed, *_no_job()
            return *listed, *self._show(farm, jobs[chosen][0], statuses[chosen], shown, request)
        except FarmError as error:
            # An ended job is drawn once more when the error is over.
            again = Shown(shown.job_id, shown.video)
            return *_unchanged(2), again, gr.skip(), self._alert(error), *_unchanged(3)

    def _thumbnail(self, job: Job, status: JobStatus, request: gr.Request) -> str | None:
        """The URL of a thumbnail."""
        if status.state != "success":
            return None
        path = self.videos.fetch_thumbnail(job)
        return _url(str(path), request) if path else None

    def _show(
        self, farm: Farm, job: Job, status: JobStatus, shown: Shown, request: gr.Request
    ) -> tuple[Any, ...]:
        """Updates of `shown`, both progresses, the player and the two buttons."""
        if shown.job_id == job.id and shown.ended:
            return _unchanged(6)
        is_playing = shown.job_id == job.id and shown.video is not None
        video = self._video(job, status, is_playing=is_playing)
        player = gr.skip()
        # A new value would restart the player.
        if (shown.job_id, shown.video) != (job.id, video):
            value = _file_data(video, request) if video else None
            player = gr.update(value=value, visible=video is not None)
        finished = None
        if status.state == "success":
            finished = str(self.videos.fetch_finished(job))
        waits = waiting(farm, job, status)
        return (
            Shown(job.id, video, status.ended),
            view.spoken(status, waits),
            view.bar(status, waits),
            player,
            gr.update(value=finished, visible=finished is not None),
            gr.update(visible=not status.ended),
        )

    def _video(self, job: Job, status: JobStatus, *, is_playing: bool) -> str | None:
        """The growing playlist, or the finished video for a visitor who did not watch it grow."""
        growing = self.videos.update_growing(job)
        if status.state == "success" and not (is_playing and growing):
            return str(self.videos.fetch_finished(job))
        return str(growing) if growing else None


def _submit_once(farm: Farm, fields: Mapping[str, Any], visit: str) -> Job:
    """The job of what is entered in a visit: one until it has ended, however often the button is
    pressed.
    """
    text = json.dumps(fields, sort_keys=True, default=str)
    key = f"{visit} {hashlib.sha256(text.encode()).hexdigest()}"
    job = farm.submit({**fields, "idempotency_key": key})
    while job.status().ended:
        job = farm.submit({**fields, "idempotency_key": f"{visit} after {job.id}"})
    return job


def _models(farm: Farm) -> list[str]:
    """The models of the farm; without a broker those of FARM_PRESETS."""
    try:
        return farm.models()
    except FarmUnreachable:
        return list(farm.context.settings.presets)


def _known_jobs(farm: Farm, own_jobs: list[list[Any]]) -> dict[str, tuple[Job, str]]:
    """The visitor's jobs with their titles by id, without those that the farm has removed.

    The list comes from the browser, so it may be longer than the page makes it, and name jobs of
    others.
    """
    known = {}
    for job_id, title, *_ in own_jobs[:MAX_JOBS]:
        try:
            known[job_id] = (farm.job(job_id), title)
        except InvalidInput:
            continue
    return known


def _no_job() -> tuple[Any, ...]:
    """Updates of `shown`, both progresses, player and buttons for a visitor without jobs."""
    hidden = gr.update(visible=False)
    return Shown(), "", view.NO_JOB, gr.update(value=None, visible=False), hidden, hidden


def _unchanged(outputs: int) -> tuple[Any, ...]:
    return (gr.skip(),) * outputs


def _choose(event: gr.EventData) -> str:
    job_id: str = event.job_id
    return job_id


def _file_data(path: str, request: gr.Request) -> dict[str, Any]:
    """A file of the cache for the player."""
    url = _url(path, request)
    return FileData(path=url, url=url, is_stream=path.endswith(".m3u8")).model_dump()


def _url(path: str, request: gr.Request) -> str:
    """That of a file of the cache, by which this visitor reaches the page."""
    page: str = request.headers.get("referer", "")
    return urljoin(page, f"gradio_api/file={quote(path)}")
