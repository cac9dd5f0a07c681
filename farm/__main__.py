"""The `farm` command, and `python -m farm`: a probe is answered before anything is imported."""

from __future__ import annotations

import sys

if sys.platform == "win32":  # locks of files, process groups and limits are POSIX's
    sys.exit("farm: this command needs Linux; on Windows it runs in WSL 2")

from farm.health import parse_probe, run_probe


def main() -> None:
    """The console script's entry."""
    found = parse_probe(sys.argv[1:])
    if found:  # containers run it every few seconds, and what follows takes half a second
        run_probe(*found)
    from farm.cli import main as cli

    cli()


if __name__ == "__main__":
    main()
