"""Writes the locked requirements: `make lock`.

`constraints.txt` has the versions of everything, which agree with each other; they are kept unless
`--upgrade` or `--upgrade-package NAME` is given. For each extra and each dependency group,
`requirements/NAME.txt` has its share of them with the SHA-256 of every file that the package index
offers. torch has two more, since a version of it is published in several builds: `torch-cpu.txt`,
and `torch-cuda.txt` for the build of the package index, with the CUDA libraries that it needs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints.txt"
TORCH_CPU = FOLDER / "torch-cpu.sha256"
"""The CPU builds of torch, which the package index does not offer."""

CUDA = re.compile(r"cuda-|nvidia-(?!cutlass-|cudnn-frontend)|triton$")
SOURCES = ("docopt",)
"""Packages that publish no wheel. Others are never built, since a build runs the package's code."""

FORMATS = ("--only-binary :all:", *(f"--no-binary {name}" for name in SOURCES))
UV = (sys.executable, "-m", "uv", "--quiet")
HASHES = ("--generate-hashes", "--no-annotate")
APART = ("lint",)
"""Groups that share no environment with the others: checkov wants old versions of much.

The overrides of pyproject.toml are not for them.
"""

COMPILE = (*UV, "pip", "compile", "--universal", "--python-version=3.11", "--no-header")


def main(arguments: list[str]) -> None:
    """Resolves all extras and groups at once, then writes the file of each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {name: f"--group=pyproject.toml:{name}" for name in project["dependency-groups"]}
    apart = {name: groups.pop(name) for name in APART}
    resolve("pyproject.toml", "--all-extras", *groups.values(), *arguments)
    base = without_torch(locked("pyproject.toml"))
    write("base", base)
    for extra in project["project"]["optional-dependencies"]:
        requirements = without_torch(locked("pyproject.toml", f"--extra={extra}"))
        write(extra, ["-r base.txt\n", *(each for each in requirements if each not in base)])
    for name, group in groups.items():
        write(name, without_torch(locked(group)))
    for name, group in apart.items():
        write(name, list(blocks(run(*COMPILE, "--no-config", *HASHES, *formats(), group)).values()))
    worker = locked("pyproject.toml", "--extra=worker")
    write("torch-cuda", [block for package, block in worker.items() if is_torch(package)])
    write("torch-cpu", [cpu_builds(worker["torch"])])


def resolve(*arguments: str) -> None:
    """Brings `constraints.txt` up to date."""
    output = f"--output-file={CONSTRAINTS.name}"
    run(*COMPILE, "--annotation-style=line", output, *formats(), *arguments)


def locked(*arguments: str) -> dict[str, str]:
    """Each requirement with its hashes, as text, by package."""
    constraints = f"--constraints={CONSTRAINTS.name}"
    return blocks(run(*COMPILE, *HASHES, constraints, *formats(), *arguments))


def blocks(text: str) -> dict[str, str]:
    """What uv prints, by package."""
    found = re.findall(r"^\S.*\n(?:\s.*\n)*", text, re.M)
    return {re.split(r"[=\[]", block, maxsplit=1)[0]: block for block in found}


def formats() -> list[str]:
    """FORMATS as arguments."""
    return [option.replace(" ", "=") for option in FORMATS]


def without_torch(requirements: dict[str, str]) -> list[str]:
    """The requirements that are the same whichever build of torch is installed."""
    return [block for package, block in requirements.items() if not is_torch(package)]


def is_torch(package: str) -> bool:
    """Whether a package is torch, or one that only its CUDA build needs."""
    return package == "torch" or CUDA.match(package) is not None


def cpu_builds(torch: str) -> str:
    """The requirement of the CPU builds of torch, from that of the builds on the package index."""
    pin = f"{torch.split()[0]}+cpu"
    builds = [line.split() for line in TORCH_CPU.read_text().splitlines()]
    hashes = [digest for digest, name in builds if name.startswith(f"{pin.replace('==', '-')}-")]
    if not hashes:
        raise SystemExit(f"{TORCH_CPU}: has no build of {pin}; see CONTRIBUTING.md")
    return " \\\n    ".join([pin, *(f"--hash=sha256:{digest}" for digest in hashes)]) + "\n"


def write(name: str, requirements: list[str]) -> None:
    """Writes `requirements/NAME.txt`."""
    header = f"# Written by `make lock`. pip install --no-deps -r requirements/{name}.txt"
    text = "\n".join((header, "--require-hashes", *FORMATS, ""))
    (FOLDER / f"{name}.txt").write_text(text + "".join(requirements))


def run(*command: str) -> str:
    """What a command prints; its errors go to the terminal."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
