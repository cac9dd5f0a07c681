"""The list of a visitor's jobs, which the browser keeps."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import gradio as gr

from farm.estimate import in_words
from farm.job import JobStatus
from farm.plan import FPS
from farm.ui.parts import read_part
from farm.ui.words import STATES

# No {{...}}: Gradio would run its content as a JavaScript template, and a title may contain one.
TEMPLATE = """${value.length ? '<h2>My videos</h2>' : ''}<ul>${value.map((job) => `<li>
<button class="show" data-event="select" value="${job.id}" aria-current="${job.chosen}">
${job.image ? `<img src="${job.image}" alt="">` : '<i class="none"></i>'}
<span>${job.title}<small>${job.facts} · ${new Date(1000 * job.at).toLocaleString('en-GB',
{dateStyle: 'medium', timeStyle: 'short'})}</small></span></button><div class="acts">
${!job.kept ? '' : `<button class="act" data-event="copy" value="${job.id}"
title="Enter the same settings again">Again</button><button class="act" data-event="delete"
value="${job.id}" data-title="${job.title}">Delete</button>`}</div></li>`).join('')}</ul>"""


def history() -> gr.HTML:
    """The list; its events `select`, `copy` and `delete` have a `job_id`."""
    return gr.HTML(
        [],
        html_template=TEMPLATE,
        css_template=read_part("history.css"),
        js_on_load=read_part("history.js"),
        apply_default_css=False,
        elem_id="jobs",
    )


def item(
    status: JobStatus, title: str, *, chosen: bool, kept: bool, image: str | None = None
) -> dict[str, Any]:
    """A job in the list, with texts as HTML; `image` is the URL of its thumbnail.

    One that the farm has `kept` can be entered again and deleted.
    """
    return {
        "id": status.job_id,
        "title": escape(title),
        "facts": escape(" · ".join(_facts(status))),
        "at": status.created_at,
        "image": image,
        "chosen": chosen,
        "kept": kept,
    }


def _facts(status: JobStatus) -> Iterable[str]:
    """How it stands, how long the video is, and how long it took."""
    state = STATES[status.state]
    yield f"{state} {status.pct:.0f} %" if status.state == "running" else state
    frames = status.result.params.get("frames") if status.result else None
    if frames:
        yield f"{frames / FPS:.1f} s of video"
    if status.ended:
        yield f"took {in_words(status.updated_at - status.created_at)}"


def write_zip(path: Path, videos: Iterable[Path]) -> Path:
    """An archive of videos, which are compressed already."""
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for video in videos:
            archive.write(video, video.name)
    return path
