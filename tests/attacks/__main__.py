"""What each bomb costs: python -m tests.attacks [BOMB ...]

Each is decoded in the sandbox, in a process of its own whose children are measured.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.attacks.bombs import BOMBS
from tests.attacks.outcome import outcome_of


def measure(name: str) -> None:
    """Prints a line of the table: bytes, seconds, the largest child's memory, and how it ends."""
    with tempfile.TemporaryDirectory() as folder:
        bomb = Path(folder, name)
        BOMBS[name](bomb)
        size = bomb.stat().st_size
        start = time.monotonic()
        outcome = outcome_of(bomb, Path(folder))
        took_s = time.monotonic() - start
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"{name:12} {size:10,} bytes {took_s:6.1f} s {peak_mb:6.0f} MB  {outcome}", flush=True)


def main() -> None:
    for name in sys.argv[1:] or BOMBS:
        process = multiprocessing.Process(target=measure, args=(name,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
