"""Makes the miniature: python -m miniature [--home FOLDER] [--minutes M] [--scale S]

Voices are spoken, then the ears, the autoencoder and the video transformer are trained, one after the other, and all
is packed as a checkpoint folder. What is done already is not done again, and a training that was stopped goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch

from miniature.making import make
from miniature.training import Run, Stopped


def main() -> None:
    reading = argparse.ArgumentParser(prog="python -m miniature", description=__doc__)
    reading.add_argument(
        "--home",
        type=Path,
        default=Path(".miniature"),
        help="where everything is kept",
    )
    reading.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after so many; the next run goes on",
    )
    reading.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="a share of the usual time, to try things",
    )
    wanted = reading.parse_args()
    wanted.home.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = (
        True  # few sizes come again and again, and small 3-D convolutions vary tenfold
    )
    torch.set_float32_matmul_precision("high")
    run = Run(wanted.home, device, time.monotonic() + 60 * wanted.minutes)
    try:
        print(make(run, wanted.scale))
    except Stopped as stopped:
        sys.exit(str(stopped))


if __name__ == "__main__":
    main()
