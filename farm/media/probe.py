"""What a file holds: by its bytes, never by its name, with limits checked before it is decoded."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path

import av
from av import AudioFrame, AudioStream, VideoFrame, VideoStream
from av.container import InputContainer

from farm.errors import DownloadFailed, InvalidInput
from farm.media.container import audio_stream, decode_packet, open_media, video_stream
from farm.media.image import DECODE_ERRORS, image_format, open_image, upright_size

VISUAL_FORMATS = "jpg, png, webp, gif, mp4, mov, webm, mkv"
AUDIO_FORMATS = "wav, mp3, flac, ogg, opus, m4a, aac, or a video with audio"

HEAD_BYTES = 4096
"""Bytes from the beginning of a file that decide what it is."""


@dataclass(frozen=True)
class Limits:
    """Sizes and lengths beyond which a file is refused before it is decoded."""

    max_pixels: int = 64_000_000
    max_side: int = 16_384
    min_side: int = 16
    max_seconds: float = 4 * 3600.0
    min_rate: int = 8_000
    max_rate: int = 192_000
    max_channels: int = 8


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
    """Neither image, video nor audio; `holds` describes what it seems to be."""

    holds: str


Found = StillImage | Clip | Audio | Unsupported


def expect_visual(path: Path, *, field: str, limits: Limits = Limits()) -> StillImage | Clip:
    """The image or video at `path`.

    Raises DownloadFailed if it is something else, InvalidInput if it is unusable.
    """
    found = probe(path, field=field, limits=limits)
    if isinstance(found, StillImage | Clip):
        return found
    raise _wrong_type(field, found, "an image or a video", VISUAL_FORMATS)


def expect_audio(path: Path, *, field: str, limits: Limits = Limits()) -> Audio:
    """The audio at `path`, or that of the video there.

    Raises DownloadFailed if it is something else, InvalidInput if it is unusable.
    """
    found = probe(path, field=field, limits=limits)
    audio = found.audio if isinstance(found, Clip) else found
    if not isinstance(audio, Audio):
        raise _wrong_type(field, found, "audio", AUDIO_FORMATS)
    _check_audio(audio, field, limits)
    return audio


def probe(path: Path, *, field: str, limits: Limits = Limits()) -> Found:
    """The kind and size of the file at `path`.

    Images are decoded completely; of video and audio only the first frame. Raises InvalidInput,
    naming `field`, what was found and what is allowed, if the file is empty, broken or beyond
    `limits`.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        allowed = f"allowed: {VISUAL_FORMATS}, or {AUDIO_FORMATS}"
        raise InvalidInput(f"{field}: the file is empty (0 bytes); {allowed}")
    if image_format(head):
        return _probe_image(path, field, limits)
    unsupported = _unsupported(head)
    if unsupported:
        return unsupported
    return _probe_media(path, field, limits, head)


def _wrong_type(field: str, found: Found, wanted: str, allowed: str) -> DownloadFailed:
    names = {StillImage: "an image", Clip: "a video without audio", Audio: "audio"}
    holds = found.holds if isinstance(found, Unsupported) else names[type(found)]
    message = f"{field}: the file holds {holds}, not {wanted}; allowed: {allowed}"
    return DownloadFailed(message, retryable=False)


def _unsupported(head: bytes) -> Unsupported | None:
    """Text and other common kinds that are sent by mistake; None if it may be video or audio."""
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
        with open_image(path) as image:
            _check_size(*image.size, field, limits)
            image.load()
            return StillImage(*upright_size(image), str(image.format))
    except DECODE_ERRORS as error:
        message = f"{field}: the image is broken and cannot be decoded ({error})"
        raise InvalidInput(message) from error


def _check_size(width: int, height: int, field: str, limits: Limits) -> None:
    size = f"{field}: got {width} x {height} pixels"
    if width * height > limits.max_pixels:
        megapixels = width * height / 1e6
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        raise InvalidInput(f"{size}, {megapixels:,.0f} megapixels; allowed: {allowed}")
    if max(width, height) > limits.max_side or min(width, height) < limits.min_side:
        allowed = f"{limits.min_side} to {limits.max_side} on each side"
        raise InvalidInput(f"{size}; allowed: {allowed}")


def _probe_media(path: Path, field: str, limits: Limits, head: bytes) -> Clip | Audio | Unsupported:
    try:
        with open_media(path) as container:
            has_video = video_stream(container) is not None
            has_audio = audio_stream(container) is not None
        audio = _probe_audio(path, field, limits) if has_audio else None
        if has_video:
            return _probe_video(path, audio, field, limits)
    except av.FFmpegError as error:
        if not claims_media(head):
            return Unsupported("data of an unknown format")
        message = f"{field}: the file is broken and cannot be decoded ({error.strerror})"
        raise InvalidInput(message) from error
    if has_audio and audio is None:
        raise InvalidInput(
            f"{field}: the file has no audio: no sample can be decoded; allowed: one or more"
        )
    return audio or Unsupported("a container without video or audio")


def _probe_audio(path: Path, field: str, limits: Limits) -> Audio | None:
    """The audio track; None if no sample of it can be decoded."""
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None or stream.codec_context is None:
            return None
        track = _walk(container, stream)
    frame = track.first
    if not isinstance(frame, AudioFrame) or not frame.samples:
        return None
    _check_seconds(track.seconds, field, limits)
    channels = frame.layout.nb_channels
    return Audio(frame.sample_rate, channels, track.seconds, stream.codec_context.name)


def _probe_video(path: Path, audio: Audio | None, field: str, limits: Limits) -> Clip:
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or stream.codec_context is None:
            raise InvalidInput(f"{field}: the farm has no decoder for this video's codec")
        _check_size(stream.codec_context.width, stream.codec_context.height, field, limits)
        track = _walk(container, stream)
    frame = track.first
    if not isinstance(frame, VideoFrame):
        raise InvalidInput(f"{field}: no frame of the video can be decoded; allowed: one or more")
    _check_seconds(track.seconds, field, limits)
    width, height = _upright_frame_size(frame)
    fps = float(stream.average_rate or track.packets / (track.seconds or 1))
    seconds = track.seconds or track.packets / fps
    return Clip(width, height, fps, track.packets, seconds, audio)


def _upright_frame_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height as shown, by the display matrix."""
    is_quarter_turned = round(frame.rotation / 90) % 2
    if is_quarter_turned:
        return frame.height, frame.width
    return frame.width, frame.height


@dataclass(frozen=True)
class _Track:
    """One stream from its first packet to its last."""

    first: AudioFrame | VideoFrame | None
    packets: int
    seconds: float


def _walk(container: InputContainer, stream: AudioStream | VideoStream) -> _Track:
    """Counts every packet, because headers lie about lengths; decodes only the first frame."""
    first = None
    packets = 0
    begin = None
    end = 0
    for packet in container.demux(stream):
        if first is None:
            first = next(iter(decode_packet(packet)), None)
        if packet.size and packet.pts is not None:
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
