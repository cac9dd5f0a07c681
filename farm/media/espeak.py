"""The synthesiser as a program of its own: text comes in on stdin, mono 16 bit samples go out on stdout.

    python -I espeak.py VOICE WORDS_A_MINUTE PITCH

A process each time, because the library keeps its state in globals that nothing resets: the second sentence of a
process sounds a little different from the same one said first, and two threads would garble each other. The first four
bytes of the answer are the rate in samples a second. It imports nothing of the farm, and so starts in 50 ms.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import espeakng_loader

# The library's own numbers (speak_lib.h).
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _BY_CHARACTER, _RATE, _PITCH = 2, 0x8000, 1, 1, 1, 3

_Receiver = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesise(text: bytes, voice: str, speed_wpm: int, pitch: int, write: Callable[[bytes], object]) -> None:
    """Calls `write` with the rate, then with samples as they are made; SystemExit if the library refuses."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DO_NOT_EXIT)
    if rate <= 0:
        sys.exit(f"espeak-ng does not start (status {rate})")
    write(rate.to_bytes(4, sys.byteorder))

    def receive(samples: ctypes._Pointer[ctypes.c_short], count: int, events: object) -> int:
        if count > 0:
            write(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _Receiver(receive)
    library.espeak_SetSynthCallback(callback)
    if status := library.espeak_SetVoiceByName(voice.encode()):
        sys.exit(f"espeak-ng cannot load the voice {voice!r} (status {status})")
    library.espeak_SetParameter(_RATE, speed_wpm, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    said = ctypes.create_string_buffer(text)
    if status := library.espeak_Synth(said, ctypes.c_size_t(len(said)), 0, _BY_CHARACTER, 0, _UTF8, None, None):
        sys.exit(f"espeak-ng cannot speak (status {status})")


if __name__ == "__main__":
    synthesise(sys.stdin.buffer.read(), sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdout.buffer.write)
