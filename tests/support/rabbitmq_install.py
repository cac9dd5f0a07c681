"""RabbitMQ from Debian's packages, unpacked into a folder.

python -m tests.support.rabbitmq_install [FOLDER] [--suite sid]

Debian 12 has RabbitMQ 3.10. A newer one from Debian 13 or sid runs on it with its own loader and C
library, so it needs no container, no root and no change of the system.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

SUITE = os.environ.get("RABBITMQ_SUITE", "trixie")
"""Debian 13: RabbitMQ 4.0. With `sid` the tests run on a newer one."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

LIBRARIES = "libc6 libgcc-s1 libstdc++6 libtinfo6 libssl3t64 libzstd1 zlib1g"
ERLANG = "base asn1 crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl"
TOOLS = "syntax-tools tools xmerl"
PACKAGES = [
    *LIBRARIES.split(),
    *(f"erlang-{name}" for name in f"{ERLANG} {TOOLS}".split()),
    "rabbitmq-server",
]
"""What the server loads; 42 MB."""

LAUNCHER = """#!/bin/sh
exec {loader} --library-path {libraries} --argv0 "$0" {program} "$@"
"""


def cache_folder() -> Path:
    """Where test runs keep what they have fetched, in the user's folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches, "infinitetalk-farm-tests")


def installed(suite: str = SUITE) -> Path:
    """The folder of an installed server, which is fetched once for all test processes."""
    folder = cache_folder() / f"rabbitmq-{suite}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder, suite)
            (folder / "complete").touch()
    return folder


def can_install() -> bool:
    """Whether this machine has what `install` needs: Debian's package tools and its key."""
    return all(map(shutil.which, ("apt-get", "dpkg-deb"))) and KEYRING.is_file()


def install(folder: Path, suite: str = SUITE) -> None:
    """Fetches the packages of a suite and unpacks them into a folder, in which they then run."""
    packages = folder / "packages"
    _download(packages, suite)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    shutil.rmtree(packages)
    _relocate(folder)


def _mirror() -> str:
    """Where this machine has its own packages from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return next(uri for uri in found.splitlines() if "security" not in uri)


def _download(folder: Path, suite: str) -> None:
    """By apt with lists of its own, which leaves the system's as they are."""
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "status").touch()
    source = f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n"
    (folder / "sources.list").write_text(source)
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder,
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    for command in (["update"], ["download", *PACKAGES]):
        subprocess.run([*apt, *command], cwd=folder, check=True)


def _relocate(folder: Path) -> None:
    """Makes Erlang's programs start from the folder, with the loader and libraries in it."""
    (loader,) = folder.glob("usr/lib/*/ld-linux-*.so.*")
    (runtime,) = folder.glob("usr/lib/erlang/erts-*/bin")
    helpers = folder.glob("usr/lib/erlang/lib/os_mon-*/priv/bin/*")
    for program in [*runtime.iterdir(), *helpers]:
        if program.read_bytes()[:4] == b"\x7fELF":
            real = program.rename(program.with_name(f"{program.name}.elf"))
            program.write_text(
                LAUNCHER.format(loader=loader, libraries=loader.parent, program=real)
            )
            program.chmod(0o755)
    start = runtime / "erl"
    start.write_text(start.read_text().replace("=/usr/lib/erlang", f"={folder}/usr/lib/erlang"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="by default the tests' cache")
    parser.add_argument("--suite", default=SUITE, help="trixie or sid")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        install(options.folder.resolve(), options.suite)
    print(options.folder or installed(options.suite))


if __name__ == "__main__":
    main()
