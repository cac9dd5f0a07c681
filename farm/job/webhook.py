"""What a webhook is sent of a result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from farm.job.status import Result

MAX_BODY_BYTES = 65_536


def webhook_body(result: Result) -> bytes:
    """A result as JSON of at most MAX_BODY_BYTES; `omitted` names the fields that it leaves out.

    Parameters and an inline video always are: the author of the request chose their length, not
    the receiver. Should the rest be too long, only the id and the status are sent.
    """
    inline = result.video.base64 if result.video else None
    omitted = [
        name for name, value in (("params", result.params), ("video.base64", inline)) if value
    ]
    sent = result.model_dump(mode="json", exclude={"params": True, "video": {"base64"}})
    body = _encode(sent, omitted)
    if len(body) <= MAX_BODY_BYTES:
        return body
    core = {name: sent.pop(name) for name in ("job_id", "status")}
    return _encode(core, ["params", *(name for name, value in sent.items() if value)])


def _encode(fields: dict[str, Any], omitted: Sequence[str]) -> bytes:
    whole = {**fields, "omitted": omitted}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
