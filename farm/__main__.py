"""The `farm` command, and `python -m farm`: a probe is answered before anything is imported."""

from __future__ import annotations

import sys

from farm.health import PROBES, Probe, run_probe

PROBE_COMMANDS: dict[tuple[str, ...], Probe] = {
    ("health",): "ready",
    **{("health", f"--{probe}"): probe for probe in PROBES},
}
"""Those that containers run every few seconds; the command line proper takes half a second."""


def main() -> None:
    """The console script's entry."""
    probe = PROBE_COMMANDS.get(tuple(sys.argv[1:]))
    if probe:
        run_probe(probe)
    from farm.cli import main as cli

    cli()


if __name__ == "__main__":
    main()
