"""A request as a form (multipart/form-data): its fields as texts, the face and the voices as files.

Files are written to a folder as they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from farm.errors import UploadFailed, did_you_mean, printable, shorten
from farm.gateway.body import DRAINED_BYTES, Limits, pieces
from farm.gateway.refusal import CLOSE, RETRY_S, Refusal, refuse, retry_after
from farm.gateway.v1.uploads import Upload
from farm.job import SHORT_NAMES, TEXT_FIELDS, fields_from_text
from farm.settings import Settings

ENCODED_NAME = b"filename*="
"""How older clients write a file's name that is not ASCII (RFC 5987)."""

SOURCES = ("cond_video", "cond_audio.person1", "cond_audio.person2")
FILES = (*SOURCES, *(short for short, field in SHORT_NAMES.items() if field in SOURCES))
"""The parts that may be files."""


@dataclass(frozen=True)
class Given:
    """The contract's fields in a request, and the parts of a form that have other names."""

    fields: dict[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)


async def read_form(request: Request, upload: Upload, settings: Settings, limits: Limits) -> Given:
    """What a form has, its files as paths; raises Refusal."""
    with closing(Form(_boundary(request), upload.folder, settings)) as form:
        refused: Refusal | None = None
        drained = 0
        async for piece in pieces(request, limits.upload_s, limits.silent_s):
            if refused is None:
                refused = await _refused(form, upload, piece)
            elif (drained := drained + len(piece)) > DRAINED_BYTES:
                break
        if refused is not None:
            raise Refusal(refused.status, refused.error, {**refused.headers, **CLOSE})
        return form.given()


async def _refused(form: Form, upload: Upload, piece: bytes) -> Refusal | None:
    """Passes a piece on; why it is refused, if it is."""
    try:
        upload.take(len(piece))
        await to_thread.run_sync(form.write, piece)
    except Refusal as refusal:
        return refusal
    return None


def _boundary(request: Request) -> bytes:
    _, options = parse_options_header(request.headers["content-type"])
    if b"boundary" not in options:
        raise refuse(400, "Content-Type: it has no boundary; allowed: multipart/form-data with one")
    return options[b"boundary"]


@dataclass(frozen=True)
class Part:
    """One part of a form, whose content goes to a file or stays in memory."""

    name: str
    """As the form has it."""
    field: str
    content: BinaryIO
    max_bytes: int

    def write(self, data: bytes) -> None:
        if self.content.tell() + len(data) > self.max_bytes:
            raise refuse(413, f"{self.name}: it is too long; allowed: {self.max_bytes:,} bytes")
        self.content.write(data)

    def end(self) -> str:
        """The text, or the path of the file."""
        with self.content as content:
            if not isinstance(content, BytesIO):
                return content.name
            try:
                return content.getvalue().decode()
            except UnicodeDecodeError:
                raise refuse(400, f"{self.name}: it is not UTF-8; allowed: UTF-8") from None


class Form:
    """The parts of a form, as far as they have arrived."""

    def __init__(self, boundary: bytes, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._texts: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._header, self._value = b"", b""
        self._disposition = b""
        self._part = Part("", "", BytesIO(), 0)
        self._has_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._write_part,
                    "on_part_end": self._close_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _no_form(error) from None

    def write(self, piece: bytes) -> None:
        """Takes the next piece of the body; raises Refusal."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _no_form(error) from None
        except OSError:
            message = "the gateway has no room for files at the moment; try again"
            raise Refusal(503, UploadFailed(message), retry_after(RETRY_S)) from None

    def close(self) -> None:
        self._part.content.close()

    def given(self) -> Given:
        """The contract's fields; an empty text is an omitted one."""
        if not self._has_ended:
            raise refuse(400, "body: it is no form (its last boundary is missing)")
        given = {name: text for name, text in self._texts.items() if text.strip()}
        return Given(fields_from_text(given), self._names)

    def _begin_part(self) -> None:
        self._disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _open_part(self) -> None:
        """A browser sends a file that was not chosen with an empty name."""
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        is_file = bool(options.get(b"filename")) or ENCODED_NAME in self._disposition.lower()
        field = SHORT_NAMES.get(name, name)
        self._check_name(name, field, is_file=is_file)
        content = (self._folder / field).open("xb") if is_file else BytesIO()
        self._part = Part(name, field, content, self._max_bytes(field, is_file=is_file))

    def _check_name(self, name: str, field: str, *, is_file: bool) -> None:
        if not name:
            raise refuse(422, "part: it has no name; allowed: Content-Disposition with a name")
        if field not in TEXT_FIELDS:
            shown = shorten(printable(name))
            hint = did_you_mean(name, [*SHORT_NAMES, *TEXT_FIELDS])
            raise refuse(422, f"{shown}: there is no such field{hint}")
        if any(_overlap(field, other) for other in self._texts):
            raise refuse(422, f"{name}: it is given twice; allowed: one part for each field")
        if is_file and field not in SOURCES:
            raise refuse(422, f"{name}: got a file; allowed: a text; files are {', '.join(FILES)}")

    def _max_bytes(self, field: str, *, is_file: bool) -> int:
        settings = self._settings
        if not is_file:
            return settings.max_request_bytes
        return settings.max_visual_bytes if field == "cond_video" else settings.max_audio_bytes

    def _write_part(self, data: bytes, start: int, end: int) -> None:
        self._part.write(data[start:end])

    def _close_part(self) -> None:
        part = self._part
        self._texts[part.field] = part.end()
        if part.name != part.field:
            self._names[part.field] = part.name

    def _end(self) -> None:
        self._has_ended = True


def _overlap(name: str, other: str) -> bool:
    """Whether two parts are the same, or one is of the other: `bbox` and `bbox.person1`."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def _no_form(error: FormParserError) -> Refusal:
    """Its sentences about headers are good ones; about boundaries it speaks of characters."""
    reason = str(error)
    if "header" not in reason.lower():
        reason = "its parts are not separated as Content-Type says, by --BOUNDARY and CR LF"
    return refuse(400, f"body: it is no form ({shorten(reason)})")
