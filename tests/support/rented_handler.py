"""The handler of a rented farm: its chunks are thumbnails, and can be held or given a fault."""

from __future__ import annotations

import os

from benchmarks.thumbnail_sizes import use_thumbnails
from farm.logs import configure
from farm.runpod.handler import serve
from farm.settings import Settings
from tests.support.runpod.faulty_handler import faulty

if __name__ == "__main__":
    configure()
    use_thumbnails()
    serve(Settings.load(os.environ), faulty)
