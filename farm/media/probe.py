"""What a file really holds: its bytes decide, never its name, and its limits are checked before it is decoded."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path

import av
from av import AudioFrame, AudioStream, VideoFrame, VideoStream
from av.container import InputContainer

from farm.errors import DownloadFailed, InvalidInput
from farm.media.container import decode_packet, open_media, video_stream, audio_stream
from farm.media.image import BROKEN, open_image, image_format, upright_size

VISUALS = "jpg, png, webp, gif, mp4, mov, webm, mkv"
SOUNDS = "wav, mp3, flac, ogg, opus, m4a, aac, or a video with sound"


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    max_pixels: int = 64_000_000
    max_side: int = 16_384
    min_side: int = 16
    max_seconds: float = 4 * 3600.0


@dataclass(frozen=True)
class StillImage:
    """A still picture; width and height as shown, upright."""

    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Audio:
    """A sound track."""

    rate: int
    channels: int
    seconds: float
    codec: str


@dataclass(frozen=True)
class Clip:
    """A video; width and height as shown, upright; frames and seconds counted, not believed."""

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    sound: Audio | None

    @property
    def has_audio(self) -> bool:
        return self.audio is not None


@dataclass(frozen=True)
class Unsupported:
    """Neither picture, video nor sound; `holds` says in words what it seems to be."""

    holds: str


def expect_visual(path: Path, *, field: str, limits: Limits = Limits()) -> StillImage | Clip:
    """The picture or video at `path`. DownloadFailed if it is something else, InvalidInput if it cannot be used."""
    found = probe(path, field=field, limits=limits)
    if isinstance(found, StillImage | Clip):
        return found
    raise _wrong_type(field, found, "a picture or a video", VISUALS)


def expect_audio(path: Path, *, field: str, limits: Limits = Limits()) -> Audio:
    """The sound at `path`, or in the video there. DownloadFailed if it is something else, InvalidInput if unusable."""
    found = probe(path, field=field, limits=limits)
    if isinstance(found, Audio):
        return found
    if isinstance(found, Clip) and found.audio:
        return found.audio
    raise _wrong_type(field, found, "sound", SOUNDS)


def probe(path: Path, *, field: str, limits: Limits = Limits()) -> StillImage | Clip | Audio | Unsupported:
    """What `path` holds, after it was decoded: a picture wholly, of video and sound the beginning.

    Raises InvalidInput, naming `field`, what was found and what is allowed, if the file is empty, broken or beyond
    `limits`.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise InvalidInput(f"{field}: the file is empty (0 bytes); wanted {VISUALS}, or {SOUNDS}")
    if image_format(head):
        return _picture(path, field, limits)
    if foreign := _foreign(head):
        return foreign
    return _moving(path, field, limits, head)


def _wrong_type(field: str, found: StillImage | Clip | Audio | Unsupported, wanted: str, allowed: str) -> DownloadFailed:
    names = {StillImage: "a picture", Clip: "a video without sound", Audio: "sound"}
    holds = found.holds if isinstance(found, Unsupported) else names[type(found)]
    return DownloadFailed(f"{field}: the file holds {holds}, not {wanted}; allowed: {allowed}", retryable=False)


def _foreign(head: bytes) -> Unsupported | None:
    """Text and other well-known kinds that are sent by mistake; None if it may be video or sound."""
    signs = {b"%PDF": "a PDF document", b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "gzip-compressed data"}
    for sign, holds in signs.items():
        if head.startswith(sign):
            return Unsupported(holds)
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return Unsupported("a web page")
    return Unsupported("text") if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    encoding = "utf-16" if head.startswith((BOM_UTF16_BE, BOM_UTF16_LE)) else "utf-8"
    try:
        # Bit by bit, because the sample may end inside a character.
        text = getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return all(sign.isprintable() or sign in "\t\r\n\f\ufeff" for sign in text)


def _claims_media(head: bytes) -> bool:
    """Whether the first bytes are those of a kind that we open, so that a failure to open it means damage."""
    boxes = (b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip")
    signs = (b"\x1aE\xdf\xa3", b"RIFF", b"RF64", b"riff", b"FORM", b"caff", b"fLaC", b"OggS", b"ID3")
    is_mpeg_sound = head[0] == 0xFF and head[1:2] >= b"\xe0"
    return head[4:8] in boxes or head.startswith(signs) or is_mpeg_sound


def _picture(path: Path, field: str, limits: Limits) -> StillImage:
    try:
        with open_image(path) as image:
            _check_size(*image.size, field, limits)
            image.load()
            return StillImage(*upright_size(image), str(image.format))
    except BROKEN as error:
        raise InvalidInput(f"{field}: the picture is broken and cannot be decoded ({error})") from error


def _check_size(width: int, height: int, field: str, limits: Limits) -> None:
    found = f"{field}: the picture is {width} x {height} pixels"
    if width * height > limits.max_pixels:
        millions = width * height / 1e6
        raise InvalidInput(f"{found}, {millions:,.0f} million; allowed: {limits.max_pixels / 1e6:g} million")
    if max(width, height) > limits.max_side or min(width, height) < limits.min_side:
        raise InvalidInput(f"{found}; allowed: {limits.min_side} to {limits.max_side} on each side")


def _moving(path: Path, field: str, limits: Limits, head: bytes) -> Clip | Audio | Unsupported:
    try:
        with open_media(path) as container:
            has_pictures, has_audio = video_stream(container) is not None, audio_stream(container) is not None
        sound = _sound(path, field, limits) if has_audio else None
        if has_pictures:
            return _clip(path, sound, field, limits)
    except av.FFmpegError as error:
        if not _claims_media(head):
            return Unsupported("bytes of no kind that the farm knows")
        raise InvalidInput(f"{field}: the file is broken and cannot be decoded ({error.strerror})") from error
    if has_audio and sound is None:
        raise InvalidInput(f"{field}: the file holds no sound: not one sample can be decoded; wanted at least one")
    return sound or Unsupported("a container without video or sound")


def _sound(path: Path, field: str, limits: Limits) -> Audio | None:
    """The sound track; None if no sample of it can be decoded."""
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None or stream.codec_context is None:
            return None
        track = _walk(container, stream)
    if not isinstance(track.first, AudioFrame) or not track.first.samples:
        return None
    _check_seconds(track.seconds, field, limits)
    channels, codec = track.first.layout.nb_channels, stream.codec_context.name
    return Audio(track.first.sample_rate, channels, track.seconds, codec)


def _clip(path: Path, sound: Audio | None, field: str, limits: Limits) -> Clip:
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or stream.codec_context is None:
            raise InvalidInput(f"{field}: the video is coded in a way that the farm cannot decode")
        _check_size(stream.codec_context.width, stream.codec_context.height, field, limits)
        track = _walk(container, stream)
    if not isinstance(track.first, VideoFrame):
        raise InvalidInput(f"{field}: not one frame of the video can be decoded; wanted at least one")
    _check_seconds(track.seconds, field, limits)
    width, height = track.first.width, track.first.height
    if round(track.first.rotation / 90) % 2:
        width, height = height, width
    fps = float(stream.average_rate or track.packets / (track.seconds or 1))
    return Clip(width, height, fps, track.packets, track.seconds or track.packets / fps, sound)


@dataclass(frozen=True)
class _Track:
    """One stream, seen from its first packet to its last."""

    first: AudioFrame | VideoFrame | None
    packets: int
    seconds: float


def _walk(container: InputContainer, stream: AudioStream | VideoStream) -> _Track:
    """Counts every packet, because headers lie about lengths, but decodes only until there is a first frame."""
    first, packets, begin, end = None, 0, None, 0
    for packet in container.demux(stream):
        first = first or next(iter(decode_packet(packet)), None)
        if packet.size and packet.pts is not None:
            packets += 1
            begin = packet.pts if begin is None else min(begin, packet.pts)
            # FFmpeg 9 gives a trimmed last packet of Vorbis a duration of minus something, modulo 2 to the 32.
            lasts = packet.duration if packet.duration and packet.duration < 2**31 else 0
            end = max(end, packet.pts + lasts)
    # Sound may begin before zero with samples that only prime the decoder.
    return _Track(first, packets, float((end - max(begin or 0, 0)) * (stream.time_base or 0)))


def _check_seconds(seconds: float, field: str, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise InvalidInput(f"{field}: lasts {seconds:,.0f} s; allowed: {limits.max_seconds:,.0f} s")
