"""Stand-ins for images that cannot be pulled: Debian's packages of this machine, as a root folder.

The true bases come from a registry. Where none can be reached, an image of the same name is made of
the files of the Debian packages that are installed here, in a few seconds. What is built from it
has the same layers above it; only the base's own size and versions differ.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

BASE = (
    *(
        "apt",
        "base-files",
        "base-passwd",
        "bash",
        "ca-certificates",
        "coreutils",
        "dash",
        "debconf",
    ),
    *("debian-archive-keyring", "debianutils", "diffutils", "dpkg", "findutils", "grep", "gzip"),
    *("hostname", "init-system-helpers", "libc-bin", "login", "mawk", "passwd", "perl-base"),
    *("python3", "python3-venv", "sed", "sysvinit-utils", "tar", "tzdata", "util-linux"),
)
"""What python:3.11-slim-bookworm has of Debian, and Debian's Python instead of its own."""

LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/")
LINKS = ("/bin", "/sbin", "/lib", "/lib64")
"""Of Debian's merged /usr."""

BESIDES = (
    *("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"),
    *("/etc/ld.so.cache", "/etc/ssl/certs/ca-certificates.crt"),
    *("/usr/bin/python3", "/usr/bin/awk", "/usr/bin/which", "/etc/alternatives/awk"),
)
"""Files that no package owns, and that programs need."""

FOLDERS = ("/tmp", "/var/tmp", "/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial")
DPKG = Path("/var/lib/dpkg")


def installed(*packages: str) -> list[str]:
    """These packages with all that they depend on, as far as they are installed here."""
    options = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    depends = ("apt-cache", "depends", "--recurse", "--installed", *(f"--no-{o}" for o in options))
    names = {line for line in output(*depends, *packages).splitlines() if line[:1].isalnum()}
    form = "${db:Status-Status} ${binary:Package}\n"
    query = ("dpkg-query", "--show", f"--showformat={form}", *sorted(names))
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return [line.split()[1] for line in found.splitlines() if line.startswith("installed ")]


def root_folder(archive: Path, packages: Iterable[str], besides: Iterable[str] = ()) -> None:
    """Writes the root folder that has only these packages as a tar file."""
    names = list(packages)
    with tarfile.open(archive, "w") as tar:
        for folder in FOLDERS:
            tar.addfile(_folder(folder))
        _add_bytes(tar, "/var/lib/dpkg/status", output("dpkg-query", "--status", *names).encode())
        for name in ("passwd", "group"):
            _add_bytes(
                tar, f"/etc/{name}", Path(f"/usr/share/base-passwd/{name}.master").read_bytes()
            )
        written = {f"/{name}" for name in tar.getnames()}
        for path in sorted({*map(_merged, _files(names)), *LINKS, *BESIDES, *besides} - written):
            if Path(path).exists() or Path(path).is_symlink():
                tar.add(path, recursive=False)


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _files(packages: list[str]) -> Iterator[str]:
    for line in output("dpkg-query", "--listfiles", *packages).splitlines():
        if line.startswith("/") and line != "/." and not line.startswith(LEFT_OUT):
            yield line
    for package in packages:
        yield from map(str, (DPKG / "info").glob(f"{package}.*"))
        yield from map(str, (DPKG / "info").glob(f"{package.partition(':')[0]}.*"))


def _merged(path: str) -> str:
    """A package may call a file /bin/sh that is /usr/bin/sh."""
    return f"/usr{path}" if path.startswith(tuple(f"{link}/" for link in LINKS)) else path


def _folder(path: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type = tarfile.DIRTYPE
    entry.mode = 0o1777 if path.endswith("tmp") else 0o755
    return entry


def _add_bytes(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.size = len(content)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(content))
