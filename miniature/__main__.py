"""Trains the miniature: python -m miniature [--home FOLDER] [--minutes M] [--scale S]

Voices are synthesised, then the audio encoder, the autoencoder and the video transformer are
trained, one after the other, and stored as a checkpoint folder. Finished parts are not trained
again, and a training that was stopped is resumed.
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
    options = _parse_options()
    options.home.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # A few sizes come again and again, and small 3-D convolutions vary tenfold.
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    run = Run(options.home, device, time.monotonic() + 60 * options.minutes)
    try:
        print(make(run, options.scale))
    except Stopped as stopped:
        sys.exit(str(stopped))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m miniature", description=__doc__)
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(".miniature"),
        help="folder of all results",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after this time; the next run resumes",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="a share of the usual training time, for trials",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
