"""Objects of the store as HTTP sends them: whole or a range, with what identifies them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from farm.gateway.refusal import refuse
from farm.store import Store

BLOCK_BYTES = 1 << 20
"""What a client is sent from is read in blocks; between two of them nothing is held."""

RANGE = re.compile("bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Media:
    """A committed object, which never changes."""

    store: Store
    key: str
    size: int
    sha256: str
    mime: str

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'

    def response(self, request: Request) -> Response:
        """200, 206, or 304; raises Refusal 416."""
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=3600",
            "ETag": self.etag,
            "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(self.sha256)).decode()}:",
            "X-Content-Type-Options": "nosniff",
        }
        if _names(request.headers.get("if-none-match", ""), self.etag):
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":  # which has no ranges, and reads nothing from the store
            headers["Content-Length"] = str(self.size)
            return Response(None, 200, headers, self.mime)
        wanted = self._wanted(request)
        if wanted is not None:
            headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{self.size}"
        sent = range(self.size) if wanted is None else wanted
        headers["Content-Length"] = str(len(sent))
        status = 200 if wanted is None else 206
        return StreamingResponse(self._blocks(sent), status, headers, self.mime)

    def _wanted(self, request: Request) -> range | None:
        """The bytes of Range; None for all, also where it is to be ignored: several ranges, or
        an If-Range of another object.
        """
        found = RANGE.fullmatch(request.headers.get("range", ""))
        if found is None or request.headers.get("if-range", self.etag) != self.etag:
            return None
        first, last = found.groups()
        if first:
            wanted = range(int(first), min(self.size, int(last or self.size) + 1))
        else:
            wanted = range(max(0, self.size - int(last or 0)), self.size)
        if not wanted:
            allowed = f"one that begins within {self.size:,} bytes"
            raise refuse(
                416,
                f"Range: got {found[0]!r}; allowed: {allowed}",
                {"Content-Range": f"bytes */{self.size}"},
            )
        return wanted

    async def _blocks(self, sent: range) -> AsyncIterator[bytes]:
        for start in sent[::BLOCK_BYTES]:
            stop = min(start + BLOCK_BYTES, sent.stop)
            yield await to_thread.run_sync(self.store.get_range, self.key, start, stop)


def _names(header: str, etag: str) -> bool:
    """Whether an If-None-Match names an object."""
    given = (each.strip().removeprefix("W/") for each in header.split(","))
    return any(each in ("*", etag) for each in given)
