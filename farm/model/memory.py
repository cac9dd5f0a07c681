"""What happens when a device is full."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from farm.errors import OutOfMemory


@contextmanager
def translate_out_of_memory(device: str, subject: str) -> Iterator[None]:
    """Turns torch's error into OutOfMemory; nothing is tried again at a smaller size."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        found = re.search(r"allocate ([\d.]+ \w+)", str(error))
        requested = found[1] if found else "more memory"
        free = "too little"
        if device.startswith("cuda"):
            free = f"{torch.cuda.mem_get_info(device)[0] / 2**30:.1f} GiB"
        raise OutOfMemory(
            f"{subject} does not fit on {device}: {requested} was requested, {free} is free; "
            "choose infinitetalk-480, a lower frame_num, offload_model or quant"
        ) from error
