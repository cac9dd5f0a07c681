"""The finished video: the segments joined as they are, with one unbroken track of the original sound."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from os import SEEK_CUR
from pathlib import Path
from typing import Any

import av
import ffmpeg
from av import AudioStream, VideoStream

from farm.errors import FFmpegFailed
from farm.media.container import audio_stream, open_media, video_stream
from farm.media.ffmpeg import AAC_KBPS_PER_CHANNEL, REPRODUCIBLE, audio_input, open_audio, run_ffmpeg
from farm.plan import FPS

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_CHANNELS = (1, 2, 3, 4, 5, 6, 8)
"""How many channels AAC has a standard arrangement for; any other number becomes stereo."""


def mux(segments: Sequence[Path], sound: Path, out: Path, *, frames: int) -> None:
    """The MP4 at `out`: H.264 pictures copied packet by packet, AAC of the original sound, `frames` / 25 s long.

    The sound keeps its rate and channels as far as AAC has them; silence fills what it lacks at the end. Raises
    FFmpegFailed with ffmpeg's last lines, or if the result is not what `check` wants; InvalidInput without any sound.
    """
    channels, rate, track = open_audio(sound)
    listing = out.with_suffix(".segments")
    listing.write_text("".join(f"file '{_quoted(segment)}'\n" for segment in segments), "utf-8")
    try:
        run_ffmpeg(_command(listing, channels, rate, out, frames / FPS), track, task="join the video")
    finally:
        listing.unlink()
    verify_video(out, frames=frames)


def verify_video(out: Path, *, frames: int) -> None:
    """Nothing, if the MP4 is what was promised; otherwise FFmpegFailed, which says what differs.

    Promised are H.264 at 25 fps with exactly `frames` frames, AAC, both `frames` / 25 s long give or take a frame, and
    the index before the data, so that playing starts before the download ends.
    """
    wanted = {"pictures": "h264", "sound": "aac", "fps": FPS, "frames": frames, "index before data": True}
    found = _facts(out)
    faults = [f"{name}: {found[name]}, wanted {value}" for name, value in wanted.items() if found[name] != value]
    for name in ("picture seconds", "sound seconds"):
        if abs(found[name] - frames / FPS) > 1 / FPS:
            faults.append(f"{name}: {found[name]:.3f}, wanted {frames / FPS:.3f}")
    if faults:
        raise FFmpegFailed(f"{out.name} is not what was asked for: {'; '.join(faults)}")


def _quoted(segment: Path) -> str:
    # The concat demuxer reads its list as a shell would.
    return str(segment.resolve()).replace("'", "'\\''")


def _command(listing: Path, channels: int, rate: int, out: Path, seconds: float) -> Any:
    pictures = ffmpeg.input(str(listing.resolve()), format="concat", safe=0, protocol_whitelist="file")
    kept = channels if channels in AAC_CHANNELS else 2
    options = {
        "c:v": "copy",
        # Segments have no frames out of order, so a frame's number is its time, whatever their own clocks say: those
        # with a sound of their own are a little longer than their pictures.
        "bsf:v": f"setts=ts=N/({FPS}*TB):duration=1/({FPS}*TB)",
        "c:a": "aac",
        "b:a": f"{AAC_KBPS_PER_CHANNEL * kept}k",
        "ar": next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1]),
        "ac": kept,
        "movflags": "+faststart",
        **REPRODUCIBLE,
    }
    return ffmpeg.output(pictures["v:0"], audio_input(channels, rate, seconds), str(out.resolve()), **options)


def _facts(out: Path) -> dict[str, Any]:
    try:
        with open_media(out) as container:
            pictures, sound = video_stream(container), audio_stream(container)
            return {
                "pictures": pictures and pictures.codec_context.name,
                "sound": sound and sound.codec_context.name,
                "fps": pictures and pictures.average_rate,
                "picture seconds": _seconds(pictures),
                "sound seconds": _seconds(sound),
                "frames": sum(packet.size > 0 for packet in container.demux(pictures)) if pictures else 0,
                "index before data": _index_first(out),
            }
    except av.FFmpegError as error:
        raise FFmpegFailed(f"{out.name} cannot be read back ({error})") from error


def _seconds(stream: VideoStream | AudioStream | None) -> float:
    if stream is None or stream.duration is None or stream.time_base is None:
        return 0.0
    return float(stream.duration * stream.time_base)


def _index_first(out: Path) -> bool:
    """Whether the box with the index (moov) comes before the one with the data (mdat); ISO 14496-12, 4.2."""
    with out.open("rb") as file:
        while len(header := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", header)
            if kind in (b"moov", b"mdat"):
                return bool(kind == b"moov")
            # Size 1 announces a 64 bit size, behind the kind.
            file.seek(struct.unpack(">Q", file.read(8))[0] - 16 if size == 1 else size - 8, SEEK_CUR)
    return False
