"""The finished video: segments joined without re-encoding, with one track of the original audio."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from os import SEEK_CUR
from pathlib import Path
from typing import Any

import av
import ffmpeg
from av import AudioStream, VideoStream
from av.container import InputContainer

from farm.errors import FFmpegFailed
from farm.media.container import audio_stream, open_media, video_stream
from farm.media.ffmpeg import (
    AAC,
    AAC_KBPS_PER_CHANNEL,
    REPRODUCIBLE,
    audio_input,
    open_audio,
    run_ffmpeg,
)
from farm.plan import FPS

AAC_RATES = (
    8000,
    11025,
    12000,
    16000,
    22050,
    24000,
    32000,
    44100,
    48000,
)
"""Sample rates of AAC up to MAX_RATE_HZ (ISO 14496-3, table 1.18)."""


def mux(segments: Sequence[Path], audio: Path, out: Path, *, frames: int) -> None:
    """Writes an MP4 of `frames` / 25 s: H.264 copied packet by packet, the original audio as AAC.

    Audio keeps its rate if AAC supports that, and is padded with silence.
    Raises FFmpegFailed with ffmpeg's last lines, or if `verify_video` fails; InvalidInput without
    any audio.
    """
    channels, rate, blocks = open_audio(audio)
    listing = out.with_suffix(".segments")
    lines = [f"file '{_quoted(segment)}'\n" for segment in segments]
    listing.write_text("".join(lines), "utf-8")
    try:
        command = _command(listing, channels, rate, out, frames / FPS)
        run_ffmpeg(command, blocks, task="join the video")
    finally:
        listing.unlink()
    verify_video(out, frames=frames)


def verify_video(out: Path, *, frames: int) -> None:
    """Raises FFmpegFailed, naming each difference, unless the MP4 is as promised.

    The MP4 must contain H.264 at 25 fps with exactly `frames` frames, AAC, both `frames` / 25 s
    long within a frame, and the index before the data, so that playback starts before the download
    ends.
    """
    wanted = {
        "video": "h264",
        "audio": "aac",
        "fps": FPS,
        "frames": frames,
        "index before data": True,
    }
    found = _facts(out)
    faults = []
    for name, value in wanted.items():
        if found[name] != value:
            faults.append(f"{name}: {found[name]}, wanted {value}")
    for name in ("video seconds", "audio seconds"):
        if abs(found[name] - frames / FPS) > 1 / FPS:
            faults.append(f"{name}: {found[name]:.3f}, wanted {frames / FPS:.3f}")
    if faults:
        raise FFmpegFailed(f"{out.name} is not as requested: {'; '.join(faults)}")


def _quoted(segment: Path) -> str:
    # The concat demuxer parses its list like a shell.
    return str(segment.resolve()).replace("'", "'\\''")


def _command(listing: Path, channels: int, rate: int, out: Path, seconds: float) -> Any:
    segments = ffmpeg.input(
        str(listing.resolve()), format="concat", safe=0, protocol_whitelist="file"
    )
    options = {
        "c:v": "copy",
        # Segments have no reordered frames, so a frame's number is its time, whatever the segments'
        # own clocks say: those that carry audio are slightly longer than their frames.
        "bsf:v": f"setts=ts=N/({FPS}*TB):duration=1/({FPS}*TB)",
        **AAC,
        "b:a": f"{AAC_KBPS_PER_CHANNEL * channels}k",
        "ar": next(known for known in AAC_RATES if known >= rate),
        "ac": channels,
        "movflags": "+faststart",
        **REPRODUCIBLE,
    }
    audio = audio_input(channels, rate, seconds)
    return ffmpeg.output(segments["v:0"], audio, str(out.resolve()), **options)


def _facts(out: Path) -> dict[str, Any]:
    try:
        with open_media(out) as container:
            video = video_stream(container)
            audio = audio_stream(container)
            return {
                "video": video and video.codec_context.name,
                "audio": audio and audio.codec_context.name,
                "fps": video and video.average_rate,
                "video seconds": _seconds(video),
                "audio seconds": _seconds(audio),
                "frames": _count_frames(container, video),
                "index before data": _index_first(out),
            }
    except av.FFmpegError as error:
        raise FFmpegFailed(f"{out.name} cannot be read back ({error})") from error


def _count_frames(container: InputContainer, video: VideoStream | None) -> int:
    if video is None:
        return 0
    return sum(packet.size > 0 for packet in container.demux(video))


def _seconds(stream: VideoStream | AudioStream | None) -> float:
    if stream is None or stream.duration is None or stream.time_base is None:
        return 0.0
    return float(stream.duration * stream.time_base)


def _index_first(out: Path) -> bool:
    """Whether the index (moov) comes before the data (mdat); ISO 14496-12, 4.2."""
    with out.open("rb") as file:
        while True:
            header = file.read(8)
            if len(header) < 8:
                return False
            size, kind = struct.unpack(">I4s", header)
            if kind in (b"moov", b"mdat"):
                return bool(kind == b"moov")
            remaining = size - 8
            if size == 1:  # a 64 bit size follows the kind
                remaining = struct.unpack(">Q", file.read(8))[0] - 16
            file.seek(remaining, SEEK_CUR)
