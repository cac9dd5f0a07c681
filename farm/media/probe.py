"""What a file holds: by its bytes, never by its name, with limits checked before it is decoded."""

from __future__ import annotations

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av import AudioFrame, AudioStream, VideoFrame, VideoStream
from av.container import InputContainer

from farm.errors import DownloadFailed, InvalidInput
from farm.media.container import (
    MAX_PIXELS,
    audio_stream,
    decode_packet,
    open_decoder,
    open_media,
    refusing_large_frames,
    video_stream,
)
from farm.media.frame import upright_size
from farm.media.image import (
    DECODE_ERRORS,
    HEAD_BYTES,
    decoded,
    image_format,
    open_image,
)
from farm.media.image import upright_size as upright_image_size

VISUAL_FORMATS = "jpg, png, webp, gif, avif, heic, mp4, mov, webm, mkv"
AUDIO_FORMATS = "wav, mp3, flac, ogg, opus, m4a, aac, or a video with audio"

UNREAD_FORMATS = {
    rb"RIFF....AVI ": "an AVI video",
    rb"FLV": "an FLV video",
    rb"0&\xb2u\x8ef\xcf\x11": "WMV or WMA",
    rb"\x00\x00\x01[\xb3\xba]": "an MPEG video",
    rb"(.{4})?G.{187}(.{4})?G": "an MPEG transport stream",
    rb"\x06\x0e\x2b\x34": "an MXF video",
    rb"#!AMR": "AMR audio",
    rb"\.snd": "AU audio",
    rb"wvpk": "WavPack audio",
    rb"(II\*\0|MM\0\*)": "a TIFF image",
    rb"BM....\0\0\0\0": "a BMP image",
    rb"8BPS": "a Photoshop document",
    rb"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    rb"(\0\0\0\x0cJXL |\xff\x0a)": "a JPEG XL image",
}
"""Media that the farm does not read, by a regular expression for their first bytes."""


@dataclass(frozen=True)
class Limits:
    """Sizes and lengths beyond which a file is refused before it is decoded.

    FFmpeg mixes up to 64 channels.
    """

    max_pixels: int = MAX_PIXELS
    max_side: int = 16_384
    min_side: int = 16
    max_ratio: float = 8.0
    """Of the longer side to the shorter one; the model's videos are nearly square beside that."""
    max_channels: int = 64
    max_seconds: float = 4 * 3600.0
    min_rate: int = 4_000
    max_rate: int = 768_000


@dataclass(frozen=True)
class StillImage:
    """A still image; width and height as shown, upright."""

    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Audio:
    """An audio track; `rate` in Hz."""

    rate: int
    channels: int
    seconds: float
    codec: str


@dataclass(frozen=True)
class Clip:
    """A video; width and height as shown, upright.

    Frames and seconds are counted from packets, not read from the header.
    """

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    audio: Audio | None

    @property
    def has_audio(self) -> bool:
        return self.audio is not None


@dataclass(frozen=True)
class Unsupported:
    """Neither image, video nor audio that the farm reads.

    `holds` describes what it seems to be, `remedy` how it can be used.
    """

    holds: str
    remedy: str = ""


Found = StillImage | Clip | Audio | Unsupported

NO_TRACKS = Unsupported("a container without video or audio")


def expect_visual(path: Path, *, field: str, limits: Limits = Limits()) -> StillImage | Clip:
    """The image or video at `path`; audio beside a video is not looked at.

    Raises DownloadFailed if it is something else, InvalidInput if it is unusable.
    """
    head = _head(path, field, VISUAL_FORMATS)
    if image_format(head):
        return _probe_image(path, field, limits)
    found: Found | None = _unsupported(path, head, field)
    if found is None:
        found = _probe_video(path, field, limits) or _probe_audio(path, field, limits)
    if isinstance(found, Clip):
        return found
    raise _wrong_type(field, found, "an image or a video", VISUAL_FORMATS)


def expect_audio(path: Path, *, field: str, limits: Limits = Limits()) -> Audio:
    """The audio at `path`; video beside it is not looked at.

    Raises DownloadFailed if it is something else, InvalidInput if it is unusable.
    """
    head = _head(path, field, AUDIO_FORMATS)
    found: Found | None = _unsupported(path, head, field)
    if image_format(head):
        found = Unsupported("an image")
    elif found is None:
        found = _probe_audio(path, field, limits) or Unsupported("a video without audio")
    if not isinstance(found, Audio):
        raise _wrong_type(field, found, "audio", AUDIO_FORMATS)
    _check_audio(found, field, limits)
    return found


def probe(path: Path, *, field: str, limits: Limits = Limits()) -> Found:
    """The kind and size of the file at `path`.

    Images are decoded completely; of video and audio only the first frame. Raises InvalidInput,
    naming `field`, what was found and what is allowed, if the file is empty, broken or beyond
    `limits`.
    """
    head = _head(path, field, f"{VISUAL_FORMATS}, or {AUDIO_FORMATS}")
    if image_format(head):
        return _probe_image(path, field, limits)
    unsupported = _unsupported(path, head, field)
    if unsupported:
        return unsupported
    audio = _probe_audio(path, field, limits)
    clip = _probe_video(path, field, limits)
    if clip:
        return replace(clip, audio=audio)
    return audio or NO_TRACKS


def _head(path: Path, field: str, allowed: str) -> bytes:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InvalidInput(f"{field}: the file is empty (0 bytes); allowed: {allowed}")
    return head


def _wrong_type(field: str, found: Found | None, wanted: str, allowed: str) -> DownloadFailed:
    if not isinstance(found, Unsupported):
        found = Unsupported("audio") if found else NO_TRACKS
    message = f"{field}: the file holds {found.holds}, not {wanted}"
    if found.remedy:
        message = f"{field}: the farm does not read {found.holds}; {found.remedy}"
    return DownloadFailed(f"{message}; allowed: {allowed}", retryable=False)


def _unsupported(path: Path, head: bytes, field: str) -> Unsupported | None:
    """What a file holds if it is neither an image nor a container of video and audio."""
    if image_format(head):
        return None
    for beginning, holds in UNREAD_FORMATS.items():
        if re.match(beginning, head, re.DOTALL):
            return Unsupported(holds, "convert it")
    return _sent_by_mistake(head) or _unopened(path, head, field)


def _unopened(path: Path, head: bytes, field: str) -> Unsupported | None:
    with _broken(field):
        try:
            with open_media(path):
                return None
        except av.FFmpegError:
            if claims_media(head):
                raise
    return Unsupported("data of an unknown format")


@contextmanager
def _broken(field: str) -> Iterator[None]:
    """Raises InvalidInput instead of av.FFmpegError."""
    try:
        yield
    except av.FFmpegError as error:
        message = f"{field}: the file is broken and cannot be decoded ({error.strerror})"
        raise InvalidInput(message) from error


def _sent_by_mistake(head: bytes) -> Unsupported | None:
    """Text and other common kinds that are no media; None if it may be video or audio."""
    magic = {
        b"%PDF": "a PDF document",
        b"PK\x03\x04": "a ZIP archive",
        b"\x1f\x8b": "gzip-compressed data",
    }
    for beginning, holds in magic.items():
        if head.startswith(beginning):
            return Unsupported(holds)
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return Unsupported("a web page")
    if _is_text(head):
        return Unsupported("text")
    return None


def _is_text(head: bytes) -> bool:
    encoding = "utf-8"
    if head.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        encoding = "utf-16"
    try:
        # Incrementally, because the sample may end within a character.
        text = getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text)


def claims_media(head: bytes) -> bool:
    """Whether the first bytes are those of an accepted format, so that an error means damage."""
    boxes = (b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip")
    magic = (
        b"\x1aE\xdf\xa3",
        b"RIFF",
        b"RF64",
        b"riff",
        b"FORM",
        b"caff",
        b"fLaC",
        b"OggS",
        b"ID3",
    )
    is_mpeg_audio = head[0] == 0xFF and head[1:2] >= b"\xe0"
    is_image = image_format(head) is not None
    return is_image or head[4:8] in boxes or head.startswith(magic) or is_mpeg_audio


def _probe_image(path: Path, field: str, limits: Limits) -> StillImage:
    try:
        with open_image(path) as opened:
            _check_size(*opened.size, field, limits)
            image = decoded(opened, path)
            return StillImage(*upright_image_size(image), str(image.format))
    except DECODE_ERRORS as error:
        message = f"{field}: the image is broken and cannot be decoded ({error})"
        raise InvalidInput(message) from error


def _check_size(width: int, height: int, field: str, limits: Limits) -> None:
    size = f"{field}: got {width} x {height} pixels"
    if width * height > limits.max_pixels:
        megapixels = width * height / 1e6
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        raise InvalidInput(f"{size}, {megapixels:,.0f} megapixels; allowed: {allowed}")
    longer = max(width, height)
    shorter = min(width, height)
    if longer > limits.max_side or shorter < limits.min_side:
        allowed = f"{limits.min_side} to {limits.max_side} on each side"
        raise InvalidInput(f"{size}; allowed: {allowed}")
    if longer > limits.max_ratio * shorter:
        allowed = f"one side up to {limits.max_ratio:g} times the other; crop it"
        raise InvalidInput(f"{size}; allowed: {allowed}")


def _probe_audio(path: Path, field: str, limits: Limits) -> Audio | None:
    """The audio track; None if there is none."""
    with _broken(field), open_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        track = _walk(container, stream, field)
    frame = track.first
    if not isinstance(frame, AudioFrame) or not frame.samples:
        raise InvalidInput(
            f"{field}: the file has no audio: no sample can be decoded; allowed: one or more"
        )
    _check_seconds(track.seconds, field, limits)
    channels = frame.layout.nb_channels
    return Audio(frame.sample_rate, channels, track.seconds, stream.codec_context.name)


def _probe_video(path: Path, field: str, limits: Limits) -> Clip | None:
    """The video track; None if there is none."""
    with _broken(field), open_media(path) as container:
        stream = video_stream(container)
        if stream is None:
            return None
        if stream.codec_context and stream.codec_context.width:  # none if its frames are too large
            _check_size(stream.codec_context.width, stream.codec_context.height, field, limits)
        track = _walk(container, stream, field)
        aspect = stream.sample_aspect_ratio or Fraction(1)
    frame = track.first
    if not isinstance(frame, VideoFrame):
        raise InvalidInput(f"{field}: no frame of the video can be decoded; allowed: one or more")
    _check_seconds(track.seconds, field, limits)
    width, height = upright_size(frame, aspect)
    _check_size(width, height, field, limits)
    fps = float(stream.average_rate or track.packets / (track.seconds or 1))
    seconds = track.seconds or track.packets / fps
    return Clip(width, height, fps, track.packets, seconds, None)


@dataclass(frozen=True)
class _Track:
    """One stream from its first packet to its last."""

    first: AudioFrame | VideoFrame | None
    packets: int
    seconds: float


def _walk(container: InputContainer, stream: AudioStream | VideoStream, field: str) -> _Track:
    """Counts every packet, because headers lie about lengths; decodes only the first frame."""
    decoder = open_decoder(stream, field)
    first = None
    packets = 0
    begin = None
    end = 0
    with refusing_large_frames(stream, field):
        for packet in container.demux(stream):
            if first is None:
                first = next(iter(decode_packet(decoder, packet)), None)
            if packet.pts is not None:
                packets += 1
                begin = packet.pts if begin is None else min(begin, packet.pts)
                duration = packet.duration or 0
                # FFmpeg 9 gives a trimmed last packet of Vorbis a negative duration, modulo 2^32.
                if duration >= 2**31:
                    duration = 0
                end = max(end, packet.pts + duration)
    # Audio may begin before zero with samples that only prime the decoder.
    ticks = end - max(begin or 0, 0)
    return _Track(first, packets, float(ticks * (stream.time_base or 0)))


def _check_audio(audio: Audio, field: str, limits: Limits) -> None:
    if not limits.min_rate <= audio.rate <= limits.max_rate:
        allowed = f"{limits.min_rate:,} to {limits.max_rate:,} Hz"
        raise InvalidInput(f"{field}: got a sample rate of {audio.rate:,} Hz; allowed: {allowed}")
    if audio.channels > limits.max_channels:
        allowed = f"1 to {limits.max_channels}"
        raise InvalidInput(f"{field}: got {audio.channels:,} channels; allowed: {allowed}")


def _check_seconds(seconds: float, field: str, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise InvalidInput(f"{field}: got {seconds:,.0f} s; allowed: {limits.max_seconds:,.0f} s")
