"""The one tag of EXIF that matters here.

Of the others many cameras and editors write what Pillow rejects, or takes for the end of all.
"""

from __future__ import annotations

import re
import struct

ORIENTATION = 0x0112

LONG = 4
"""The type of numbers of 32 bits; the orientation should be a SHORT, of 16."""


def orientation(block: bytes) -> int | None:
    """The orientation in the first list of tags (TIFF 6.0, section 2); None if there is none."""
    block = re.sub(rb"\A(Exif\0\0)+", b"", block)
    order = "<" if block.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, entry)
            if tag == ORIENTATION:
                value = "I" if kind == LONG else "H"
                return int(struct.unpack_from(order + value, block, entry + 8)[0])
    except struct.error:  # the block ends before
        pass
    return None
