"""Small media files that cost a decoder much memory or time; each writes itself to a path."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

BOMBS: dict[str, Callable[[Path], None]] = {}
"""By file name, whose suffix is the container."""

SIDE = 16_000
"""Of frames that are far larger than their header says."""

START_OF_SCAN = b"\xff\xda"
END_OF_IMAGE = b"\xff\xd9"


def bomb(name: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def add(write: Callable[[Path], None]) -> Callable[[Path], None]:
        BOMBS[name] = write
        return write

    return add


@bomb("scans.jpg")
def scans(path: Path) -> None:
    """A progressive JPEG of 100,000 scans: hours of decoding."""
    path.write_bytes(_jpeg_of_scans(100_000))


@bomb("scans.mkv")
def scans_in_a_video(path: Path) -> None:
    """The same as the 26th frame of a video: one call of C code that no signal handler ends."""
    _write_frames(path, "mjpeg", [*[_jpeg(64, 64)] * 25, _jpeg_of_scans(100_000)])


@bomb("growing.mkv")
def growing(path: Path) -> None:
    """A video whose frames grow from 64 to 16,000 pixels a side after a second."""
    _write_frames(path, "mjpeg", [*[_jpeg(64, 64)] * 25, *[_jpeg(SIDE, SIDE)] * 3])


@bomb("growing.mov")
def growing_png(path: Path) -> None:
    """The same with 16 bits for each of four channels: 2 GB a frame."""
    _write_frames(path, "png", [*[_png(64, 64)] * 25, *[_png(SIDE, SIDE, depth=16)] * 3])


@bomb("lying.mov")
def lying_header(path: Path) -> None:
    """A header of 64 pixels, and only frames of 16,000 a side."""
    _write_frames(path, "png", [_png(SIDE, SIDE, depth=16)])


@bomb("samples.mp4")
def endless_sample_table(path: Path) -> None:
    """An MP4 of less than a kilobyte whose table has 85 million samples."""
    path.write_bytes(_mp4(samples=85_000_000))


@bomb("thin.png")
def thin(path: Path) -> None:
    """An image that, scaled to cover a frame, has gigabytes."""
    path.write_bytes(_png(16, 16_384))


@bomb("fast.flac")
def fast(path: Path) -> None:
    """A minute of silence at 655,350 Hz in eight channels: 1.3 GB of samples."""
    path.write_bytes(_flac_of_silence(rate=655_350, channels=8, seconds=60))


@bomb("slow.wav")
def slow(path: Path) -> None:
    """Four hours of audio in 14 kB, at 1 Hz."""
    data = bytes([128, 140] * 7_000)
    header = struct.pack("<IHHIIHH", 16, 1, 1, 1, 1, 1, 8)
    content = b"WAVEfmt " + header + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)


def _jpeg(width: int, height: int, **options: bool) -> bytes:
    content = io.BytesIO()
    Image.new("L", (width, height)).save(content, "JPEG", quality=1, **options)
    return content.getvalue()


def _jpeg_of_scans(count: int) -> bytes:
    """An image of 3,000 pixels a side whose last scan is repeated."""
    content = _jpeg(3000, 3000, progressive=True)
    last = content.rindex(START_OF_SCAN)
    scan = content[last : -len(END_OF_IMAGE)]
    return content[:last] + scan * count + END_OF_IMAGE


def _png(width: int, height: int, *, depth: int = 8) -> bytes:
    """Black, RGBA; compressed row by row, so that a large one takes no memory here."""
    row = bytes(1 + width * depth // 8 * 4)
    compressor = zlib.compressobj(1)
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _write_frames(path: Path, codec: str, frames: Iterable[bytes]) -> None:
    """A video at 25 fps of encoded frames, whatever they hold; its header says 64 x 64 pixels."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = 64
        stream.height = 64
        stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgba"}[codec]
        container.start_encoding()
        for index, frame in enumerate(frames):
            packet = av.Packet(frame)
            packet.stream = stream
            packet.time_base = Fraction(1, 25)
            packet.pts = index
            packet.dts = index
            packet.duration = 1
            packet.is_keyframe = True
            container.mux(packet)


def _mp4(*, samples: int) -> bytes:
    """An MP4 of one JPEG that claims a number of samples of one byte each."""
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", 64, 64)
    entry += struct.pack(">II", 72 << 16, 72 << 16) + bytes(4) + struct.pack(">H", 1) + bytes(32)
    entry += struct.pack(">Hh", 24, -1)
    table = _box(
        b"stbl",
        _box(b"stsd", bytes(4), struct.pack(">I", 1), _box(b"jpeg", entry)),
        _box(b"stts", bytes(4), struct.pack(">III", 1, samples, 1)),
        _box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, samples, 1)),
        _box(b"stsz", bytes(4), struct.pack(">II", 1, samples)),
        _box(b"stco", bytes(4), struct.pack(">II", 1, 44)),
    )
    reference = _box(b"dref", bytes(4), struct.pack(">I", 1), _box(b"url ", b"\0\0\0\1"))
    media = _box(
        b"mdia",
        _box(b"mdhd", bytes(12), struct.pack(">II", 25, samples), bytes(4)),
        _box(b"hdlr", bytes(4), b"mhlrvide", bytes(13)),
        _box(b"minf", _box(b"vmhd", bytes(12)), _box(b"dinf", reference), table),
    )
    header = bytes(12) + struct.pack(">IIIH", 1000, 1000, 0x10000, 0x100) + bytes(10) + matrix
    track = struct.pack(">I", 7) + bytes(8) + struct.pack(">III", 1, 0, 1000) + bytes(16) + matrix
    movie = _box(
        b"moov",
        _box(b"mvhd", header + bytes(24) + struct.pack(">I", 2)),
        _box(b"trak", _box(b"tkhd", track + struct.pack(">II", 64 << 16, 64 << 16)), media),
    )
    return _box(b"ftyp", b"isom\0\0\0\0isom") + movie + _box(b"mdat", _jpeg(64, 64))


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _flac_of_silence(*, rate: int, channels: int, seconds: int) -> bytes:
    """The encoder's frames of one second, repeated: FLAC frames of silence are a few bytes."""
    content = io.BytesIO()
    with av.open(content, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout="7.1" if channels == 8 else "mono")
        second = np.zeros((1, rate * channels), np.int16)
        for _ in range(seconds):
            frame = av.AudioFrame.from_ndarray(second, format="s16", layout=stream.layout.name)
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return content.getvalue()
