"""What is wrong with an overlay, by its schemas and by the farm's code: `make k8s-check`.

    python -m k8s.check [FOLDER ...]      of your own overlays, or of all in k8s/overlays

Prints a line for each finding and exits 1 if there is any. No cluster is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from k8s.checks import network, pods, scaling, schema
from k8s.checks.manifests import OVERLAYS, Manifest, render

Check = Callable[[Sequence[Manifest]], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    schema.findings,
    pods.commands,
    pods.images,
    pods.variables,
    pods.secrets,
    pods.stores,
    pods.references,
    pods.grace_periods,
    pods.probes,
    pods.posture,
    pods.resources,
    pods.gpus,
    network.ports,
    network.selectors,
    network.services,
    network.reach,
    scaling.targets,
    scaling.triggers,
    scaling.expressions,
)


def findings(manifests: Sequence[Manifest]) -> list[str]:
    """Of the schemas alone if they find anything, since the other checks rely on the shape."""
    by_schema = list(schema.findings(manifests))
    return by_schema or [each for check in CHECKS[1:] for each in check(manifests)]


def main(arguments: Sequence[str]) -> int:
    folders = [Path(each) for each in arguments] or sorted(OVERLAYS.iterdir())
    failed = False
    for folder in folders:
        try:
            found = findings(render(folder))
        except ValueError as error:
            found = [str(error)]
        for finding in found:
            print(f"{folder.name}: {finding}")
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
