"""The settings of an earlier job, to enter them again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from farm.client import Job
from farm.errors import InvalidInput
from farm.store import integrity, keys
from farm.ui import form


def settings_of(job: Job, names: Any, uploads: Path) -> dict[str, Any]:
    """The values with which a job was entered, its files as uploads of these `names` by input.

    Raises InvalidInput if the farm does not have its request or a file any more.
    """
    request = job.request()
    audio = request.cond_audio
    sources = {
        "face": request.cond_video,
        "audio1": audio and audio.person1,
        "audio2": audio and audio.person2,
    }
    folder = Path(tempfile.mkdtemp(dir=uploads))
    files: dict[str, str | None] = dict.fromkeys(form.FILES)
    for name, file_name in form.known_names(names):
        source = sources[name]
        if source:
            files[name] = str(_fetch(job, source, folder / file_name))
    return {**form.entered(request), **files}


def _fetch(job: Job, source: str, path: Path) -> Path:
    key = source.removeprefix(keys.SCHEME)
    try:
        return integrity.fetch(job.context.store, key, path, sha256=key.removeprefix(keys.UPLOADS))
    except KeyError as error:
        raise InvalidInput(
            f"{path.name}: the farm does not have it any more; choose it anew"
        ) from error
