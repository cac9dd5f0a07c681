"""What a webhook is sent of a result."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from typing import Any

from farm.job.status import Result

MAX_BODY_BYTES = 65_536


def webhook_body(result: Result, *, without: str | None = None) -> bytes:
    """A result as JSON of at most MAX_BODY_BYTES; `omitted` names the fields that it leaves out.

    Parameters and an inline video always are: the author of the request chose their length, not
    the receiver. So are URLs below `without`, a folder that is no affair of the receiver. Should
    the rest be too long, only the id and the status are sent.
    """
    video = result.video
    is_local = without is not None and video is not None and video.url.startswith(without)
    left_out = {
        "params": bool(result.params),
        "video.base64": video is not None and video.base64 is not None,
        "video.url": is_local,
        "video.thumbnail_url": is_local,
        "artifacts": is_local,
    }
    omitted = [name for name, is_left_out in left_out.items() if is_left_out]
    sent = result.model_dump(mode="json", exclude=_excluded({"params", "video.base64", *omitted}))
    body = _encode(sent, omitted)
    if len(body) <= MAX_BODY_BYTES:
        return body
    core = {name: sent.pop(name) for name in ("job_id", "status")}
    return _encode(core, ["params", *(name for name, value in sent.items() if value)])


def _excluded(names: Set[str]) -> Any:
    """Names of fields, and of parts of the video, as pydantic wants them."""
    parts = {name.removeprefix("video.") for name in names if "." in name}
    return {name: True for name in names if "." not in name} | {"video": parts}


def _encode(fields: dict[str, Any], omitted: Sequence[str]) -> bytes:
    whole = {**fields, "omitted": omitted}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
