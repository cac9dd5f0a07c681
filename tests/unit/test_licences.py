"""What `make audit` accepts."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from requirements.licences import faults, licences, read_policy
from tests.support.requirements import FILES, ROOT, locked

POLICY = read_policy()


def package(folder: Path, name: str, fields: str, *files: str) -> Distribution:
    """An installed package with these fields and files."""
    metadata = folder / f"{name}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{fields}")
    (metadata / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return Distribution.at(metadata)


def test_what_is_installed_is_accepted() -> None:
    assert faults(distributions(), POLICY) == []


@pytest.mark.parametrize(
    "fields",
    [
        "License-Expression: MPL-2.0 AND (Apache-2.0 OR MIT)",
        "License-Expression: GPL-3.0-or-later OR MIT",
        "Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: BSD License",
        "License: Apache 2.0",
    ],
)
def test_allowed_licences_are_read_from_each_field(fields: str, tmp_path: Path) -> None:
    assert faults([package(tmp_path, "theirs", fields)], POLICY) == []


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("License-Expression: MIT AND GPL-3.0-only", "GPL-3.0-only"),
        ("License-Expression: AGPL-3.0-only OR SSPL-1.0", "AGPL-3.0-only OR SSPL-1.0"),
        (
            "Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)",
            "GPL-2.0-only",
        ),
        ("License: Proprietary", "Proprietary"),
        ("", "no licence in its metadata"),
    ],
)
def test_other_licences_are_named(fields: str, fault: str, tmp_path: Path) -> None:
    assert faults([package(tmp_path, "theirs", fields)], POLICY) == [f"theirs: {fault}"]


def test_a_library_in_a_wheel_has_a_licence_that_the_metadata_need_not_name(
    tmp_path: Path,
) -> None:
    files = ("theirs/__init__.py", "theirs.libs/libx264-d6533a8d.so.165")
    theirs = package(tmp_path, "theirs", "License-Expression: MIT", *files)
    assert licences(theirs, POLICY) == {"MIT", "GPL-2.0-or-later"}
    assert faults([theirs], POLICY) == ["theirs: GPL-2.0-or-later"]


def test_an_exemption_is_of_one_package_and_of_its_licences_only(tmp_path: Path) -> None:
    theirs = package(tmp_path, "libfaketime", "License-Expression: GPL-2.0-only")
    assert faults([theirs], POLICY) == []
    other = package(tmp_path, "libfaketime2", "License-Expression: GPL-2.0-only")
    assert faults([other], POLICY) == ["libfaketime2: GPL-2.0-only"]


def test_what_could_not_be_audited_is_an_error() -> None:
    """Without `--strict` pip-audit succeeds if the service knows none of the packages."""
    (line,) = re.findall(r"bin/pip-audit.*", (ROOT / "Makefile").read_text())
    assert "--strict" in line


def test_copyleft_packages_are_confined_to_their_extras() -> None:
    bringing: dict[str, set[str]] = {}
    for file in FILES:
        for package in locked(file.stem):
            bringing.setdefault(package, set()).add(file.stem)
    exempt = {package: POLICY.exemption(package) for package in bringing}
    for package, exemption in exempt.items():
        assert not exemption or bringing[package] == exemption.extras, package
