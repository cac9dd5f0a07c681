"""Opening containers of video and audio, restricted to the formats that the farm accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import av
from av import AudioFrame, AudioStream, CodecContext, Packet, VideoFrame, VideoStream
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext

from farm.errors import InvalidInput

DEMUXERS = "mov,mp4,matroska,webm,wav,w64,aiff,caf,mp3,flac,ogg,aac"
"""Formats that FFmpeg may open.

It has hundreds of demuxers. Some, playlists above all, refer to other files and URLs, which FFmpeg
would then read on behalf of the author of the file.
"""

VIDEO_CODECS = (
    "h264",
    "hevc",
    "libdav1d",
    "av1",
    "vp8",
    "vp9",
    "mpeg4",
    "mpeg2video",
    "h263",
    "theora",
    "mjpeg",
    "prores",
    "dvvideo",
    "ffv1",
)
AUDIO_CODECS = (
    "aac",
    "mp3",
    "mp3float",
    "mp2",
    "mp2float",
    "opus",
    "vorbis",
    "flac",
    "alac",
    "ac3",
    "eac3",
    "amrnb",
    "libopencore_amrnb",
    "amrwb",
    "libopencore_amrwb",
    "speex",
    "adpcm_ms",
    "adpcm_ima_wav",
    "adpcm_ima_qt",
    "pcm_u8",
    "pcm_s8",
    "pcm_s16le",
    "pcm_s16be",
    "pcm_s24le",
    "pcm_s24be",
    "pcm_s32le",
    "pcm_s32be",
    "pcm_f32le",
    "pcm_f32be",
    "pcm_f64le",
    "pcm_f64be",
    "pcm_mulaw",
    "pcm_alaw",
)
"""Decoders that FFmpeg may use, of the more than 500 that it has.

The others are for formats in which no face or voice is recorded, and are little maintained.
"""

MAX_PIXELS = 64_000_000
"""In a frame; a decoder refuses larger ones, wherever in a video they come."""

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these ignore the alpha channel."""

_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
"""Streams that are no videos: cover art, previews, tiles of a larger image."""

Decoder = AudioCodecContext | VideoCodecContext

S = TypeVar("S", AudioStream, VideoStream)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The container at `path`; av.FFmpegError if it is broken or of a format outside DEMUXERS."""
    options = {
        "format_whitelist": DEMUXERS,
        "protocol_whitelist": "file",
        # Both are for the frames that FFmpeg decodes to learn about streams; see `open_decoder`.
        "codec_whitelist": ",".join(VIDEO_CODECS + AUDIO_CODECS),
        "max_pixels": str(MAX_PIXELS),
    }
    # Without the prefix FFmpeg would guess the protocol from the name.
    url = f"file:{path}"
    with av.open(url, "r", options=options, metadata_errors="replace") as container:
        yield container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that players show; cover art does not count."""
    videos = [each for each in container.streams.video if not each.disposition & _COVERS]
    # A cover without that flag is a video of one frame.
    return _preferred([each for each in videos if each.frames != 1]) or _preferred(videos)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The audio stream that players play."""
    return _preferred(container.streams.audio)


def _preferred(streams: Iterable[S]) -> S | None:
    """The first stream that is flagged as default, or else the first."""
    return max(streams, key=lambda each: bool(each.disposition & Disposition.default), default=None)


@overload
def decode_frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]: ...
@overload
def decode_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]: ...
def decode_frames(
    container: InputContainer, stream: AudioStream | VideoStream
) -> Iterator[AudioFrame | VideoFrame]:
    """Every decodable frame from the current position of the container.

    Raises InvalidInput for a codec that is not accepted, and for a frame beyond MAX_PIXELS.
    """
    name = Path(container.name).name
    decoder = open_decoder(stream, name)
    with refusing_large_frames(stream, name):
        for packet in container.demux(stream):
            yield from decode_packet(decoder, packet)


@contextmanager
def refusing_large_frames(stream: AudioStream | VideoStream, name: str) -> Iterator[None]:
    """Raises InvalidInput, whose message begins with `name`, for a frame beyond MAX_PIXELS."""
    try:
        yield
    except av.error.ArgumentError as error:
        if isinstance(stream, AudioStream):
            raise
        allowed = f"frames of at most {MAX_PIXELS / 1e6:g} megapixels"
        raise InvalidInput(f"{name}: a frame cannot be decoded; allowed: {allowed}") from error


def open_decoder(stream: AudioStream | VideoStream, name: str) -> Decoder:
    """The decoder of a stream, within MAX_PIXELS and in one thread.

    Raises InvalidInput for a codec that is not accepted; `name` is the file's in the message.
    """
    allowed = VIDEO_CODECS if isinstance(stream, VideoStream) else AUDIO_CODECS
    decoder: Decoder | None = stream.codec_context
    codec = decoder.name if decoder else "unknown"
    if decoder is None or codec not in allowed:
        raise InvalidInput(
            f"{name}: the codec of its {stream.type} is {codec}; allowed: {', '.join(allowed)}"
        )
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if codec in _ALPHA_DECODERS and tags.get("alpha_mode") == "1":
        decoder = cast(VideoCodecContext, CodecContext.create(_ALPHA_DECODERS[codec], "r"))
    if not decoder.is_open:
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        # With more, frames would be decoded ahead, one in each thread.
        decoder.thread_count = 1
    return decoder


def decode_packet(decoder: Decoder, packet: Packet[Any]) -> list[Any]:
    """The frames in a packet; none if it is damaged, or empty, which repeats the last frame."""
    if not packet.size and packet.pts is not None:  # the end has no time
        return []
    try:
        return list(decoder.decode(packet))
    except av.error.InvalidDataError:
        return []
