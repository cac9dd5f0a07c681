"""espeak-ng as a separate program: text on stdin, mono 16 bit samples on stdout.

    python -I espeak.py VOICE WORDS_PER_MINUTE PITCH MAX_SECONDS

It stops soon after MAX_SECONDS of speech.

Each text needs a fresh process, because the library keeps its state in globals that nothing
resets: the second sentence of a process sounds slightly different from the same sentence spoken
first, and two threads would garble each other. The first four bytes of the output are the sample
rate in Hz. The program imports nothing from the farm, and so starts in 50 ms.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import espeakng_loader

# The library's constants (speak_lib.h).
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_BY_CHARACTER = 1
_RATE = 1
_PITCH = 3

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def synthesise(
    text: bytes,
    voice: str,
    speed_wpm: int,
    pitch: int,
    max_seconds: float,
    write: Callable[[bytes], object],
) -> None:
    """Calls `write` with the sample rate, then with blocks of samples; SystemExit on an error."""
    library, rate = _start()
    write(rate.to_bytes(4, sys.byteorder))
    callback = _Callback(_receiver(write, max_seconds * rate))
    library.espeak_SetSynthCallback(callback)  # which keeps no reference to it
    status = library.espeak_SetVoiceByName(voice.encode())
    _check(status, f"load the voice {voice!r}")
    library.espeak_SetParameter(_RATE, speed_wpm, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    buffer = ctypes.create_string_buffer(text)
    size = ctypes.c_size_t(len(buffer))
    status = library.espeak_Synth(buffer, size, 0, _BY_CHARACTER, 0, _UTF8, None, None)
    _check(status, "speak")


def _start() -> tuple[ctypes.CDLL, int]:
    """The library, ready to speak, and its sample rate in Hz."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path().encode()
    rate: int = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
    if rate <= 0:
        sys.exit(f"espeak-ng does not start (status {rate})")
    return library, rate


def _receiver(
    write: Callable[[bytes], object], max_samples: float
) -> Callable[[ctypes._Pointer[ctypes.c_short], int, object], int]:
    """The function that writes each block of samples, and ends the synthesis after so many."""
    written = 0

    def receive(samples: ctypes._Pointer[ctypes.c_short], count: int, events: object) -> int:
        nonlocal written
        if count > 0:
            write(ctypes.string_at(samples, 2 * count))
            written += count
        return int(written > max_samples)  # 1 ends the synthesis

    return receive


def _check(status: int, action: str) -> None:
    if status:
        sys.exit(f"espeak-ng cannot {action} (status {status})")


if __name__ == "__main__":
    _, name, words_per_minute, pitch, max_seconds = sys.argv
    text = sys.stdin.buffer.read()
    write = sys.stdout.buffer.write
    synthesise(text, name, int(words_per_minute), int(pitch), float(max_seconds), write)
