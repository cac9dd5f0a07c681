"""Compares the licences of what is installed with `licences.toml`: a part of `make audit`."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import Distribution, distributions
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Exemption:
    """Licences that a package may have besides the allowed ones, and what may bring it."""

    licences: frozenset[str]
    extras: frozenset[str]
    reason: str


@dataclass(frozen=True)
class Policy:
    """The content of `licences.toml`."""

    allowed: frozenset[str]
    names: Mapping[str, str]
    stated: Mapping[str, str]
    bundled: Mapping[str, str]
    accepted: Mapping[str, Exemption]

    def exemption(self, package: str) -> Exemption | None:
        """That of a package, whose name may match a pattern."""
        found = (each for name, each in self.accepted.items() if fnmatch(package, name))
        return next(found, None)

    def faults(self, package: str, licences: Iterable[str]) -> list[str]:
        """Of a package's licences, all of which apply, those that are not accepted."""
        exemption = self.exemption(package)
        fine = self.allowed | (exemption.licences if exemption else frozenset())
        parts = [part for each in licences for part in each.split(" AND ")]
        return [part for part in parts if fine.isdisjoint(part.strip("()").split(" OR "))]


def read_policy() -> Policy:
    """The policy of `licences.toml`."""
    table = tomllib.loads((FOLDER / "licences.toml").read_text())
    accepted = {
        package: Exemption(frozenset(row["licences"]), frozenset(row["extras"]), row["reason"])
        for package, row in table["accepted"].items()
    }
    allowed = frozenset(table["allowed"])
    return Policy(allowed, table["names"], table["stated"], table["bundled"], accepted)


def canonical(name: str) -> str:
    """A package's name as the locked requirements spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(package: Distribution, policy: Policy) -> set[str]:
    """The SPDX expressions of a package and of the libraries in its wheel."""
    stated = policy.stated.get(canonical(package.name))
    files = [file.name for file in package.files or ()]
    bundled = {
        licence
        for pattern, licence in policy.bundled.items()
        if any(fnmatch(file, pattern) for file in files)
    }
    declared = [stated] if stated else metadata_licences(package)
    return {policy.names.get(name, name) for name in declared} | bundled


def metadata_licences(package: Distribution) -> list[str]:
    """What the metadata calls the licence, in its newest field that is filled."""
    metadata = package.metadata
    expressions = metadata.get_all("License-Expression")
    if expressions:
        return expressions
    classifiers = [each.split(" :: ") for each in metadata.get_all("Classifier") or ()]
    named = [each[-1] for each in classifiers if each[0] == "License"]
    specific = [name for name in named if not name.endswith(("Approved", "approved"))]
    return specific or metadata.get_all("License") or ["no licence in its metadata"]


def faults(packages: Iterable[Distribution], policy: Policy) -> list[str]:
    """A sentence for each package that has a licence which is not accepted."""
    found = []
    for package in packages:
        wrong = policy.faults(canonical(package.name), licences(package, policy))
        if wrong:
            found.append(f"{package.name}: {', '.join(sorted(wrong))}")
    return sorted(found)


def main() -> None:
    """Prints the accepted exceptions that are installed; fails if there are others."""
    policy = read_policy()
    installed = [each for each in distributions() if each.name != "infinitetalk-farm"]
    for package in sorted(installed, key=lambda each: canonical(each.name)):
        exemption = policy.exemption(canonical(package.name))
        if exemption:
            print(f"{package.name}: {', '.join(sorted(exemption.licences))}. {exemption.reason}")
    found = faults(installed, policy)
    if found:
        sys.exit("not accepted by requirements/licences.toml:\n" + "\n".join(found))
    print(f"licences of {len(installed)} packages: accepted")


if __name__ == "__main__":
    main()
