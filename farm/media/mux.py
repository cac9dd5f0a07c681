"""The finished video: the segments joined as they are, with one unbroken track of the original sound."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from os import SEEK_CUR
from pathlib import Path
from typing import Any

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
from av import AudioStream, VideoStream

from farm.errors import FFmpegFailed
from farm.media.audio import Samples, pieces
from farm.media.container import open_media, picture_stream, sound_stream
from farm.plan import FPS

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_CHANNELS = (1, 2, 3, 4, 5, 6, 8)
"""How many channels AAC has a standard arrangement for; any other number becomes stereo."""

KBPS_PER_CHANNEL = 96


def mux(segments: Sequence[Path], sound: Path, out: Path, *, frames: int) -> None:
    """The MP4 at `out`: H.264 pictures copied packet by packet, AAC of the original sound, `frames` / 25 s long.

    The sound keeps its rate and channels as far as AAC has them; silence fills what it lacks at the end. Raises
    FFmpegFailed with ffmpeg's last lines, or if the result is not what `check` wants; InvalidInput without any sound.
    """
    track = pieces(sound)
    first = next(track)
    listing = out.with_suffix(".segments")
    listing.write_text("".join(f"file '{_quoted(segment)}'\n" for segment in segments), "utf-8")
    try:
        _run(_command(listing, len(first[0]), first[1], out, frames / FPS), chain([first], track))
    finally:
        listing.unlink()
    check(out, frames=frames)


def check(out: Path, *, frames: int) -> None:
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
    sound = ffmpeg.input("pipe:0", format="f32le", ar=rate, ac=channels)
    kept = channels if channels in AAC_CHANNELS else 2
    options = {
        "c:v": "copy",
        # Segments have no frames out of order, so a frame's number is its time, whatever their own clocks say.
        "bsf:v": f"setts=ts=N/({FPS}*TB):duration=1/({FPS}*TB)",
        "c:a": "aac",
        "b:a": f"{KBPS_PER_CHANNEL * kept}k",
        "ar": next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1]),
        "ac": kept,
        "t": f"{seconds:.6f}",
        "movflags": "+faststart",
        # The recording's tags (names, places) are nobody's business, and dates would make every run's bytes differ.
        "map_metadata": -1,
        "fflags": "+bitexact",
        "flags:a": "+bitexact",
    }
    filled = sound["a:0"].filter("apad", whole_dur=f"{seconds:.6f}")
    joined = ffmpeg.output(pictures["v:0"], filled, str(out.resolve()), **options)
    # Without -y and -nostdin ffmpeg may wait for an answer that nobody gives.
    return joined.global_args("-nostdin", "-hide_banner", "-loglevel", "error").overwrite_output()


def _run(command: Any, track: Iterable[tuple[Samples, int]]) -> None:
    """Runs ffmpeg and feeds it the sound as the encoder of the audio heard it, sample by sample.

    So it cannot drift from the lips by gaps in a recording's clock, and ffmpeg opens no file from outside.
    """
    # Always the bundled program, so that every machine makes the same file.
    with ffmpeg.run_async(command, cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True) as process:
        # A pipe breaks when ffmpeg has heard enough, or has failed; its exit status tells which.
        with suppress(BrokenPipeError):
            for samples, _ in track:
                process.stdin.write(np.ascontiguousarray(samples.T, "<f4").tobytes())
        _, said = process.communicate()
    if process.returncode:
        last = "\n".join(said.decode("utf-8", "replace").strip().splitlines()[-5:])
        raise FFmpegFailed(f"ffmpeg could not join the video: {last}")


def _facts(out: Path) -> dict[str, Any]:
    try:
        with open_media(out) as container:
            pictures, sound = picture_stream(container), sound_stream(container)
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
