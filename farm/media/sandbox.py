"""Decoding and speech in a child process: a stranger's input can crash, hang or bloat only that.

The child has limits of memory, CPU time, file size and open files, no network, and an empty
environment: an input that takes it over finds no keys. What it returns is validated like any other
input.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import IO, Any, NamedTuple, ParamSpec, Self, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError, validate_call

from farm.errors import FULL, FarmError, InvalidInput, error_from_code, system_errno
from farm.media.no_network import deny_network

MAX_ANSWER_BYTES = 4_000_000
POLL_INTERVAL_S = 0.05
ROOT = Path(__file__).parents[2]
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from farm.media.sandbox import main; main()"

DISK_FULL = 74
"""The exit status of a child that finds the disk full: EX_IOERR."""

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class SandboxLimits:
    """What one call may use."""

    seconds: float = 300.0
    """By the clock, and of CPU time for each thread."""
    memory_bytes: int = 3 << 30
    """Address space, which includes the libraries."""
    file_bytes: int = 8 << 30
    open_files: int = 64
    threads: int = 1
    """Of each numerical library; each takes up to 70 MB of address space."""


def keep_on() -> None:
    """Does not stop a call."""


def sandboxed(
    function: Callable[Arguments, Answer],
    *,
    limits: SandboxLimits = SandboxLimits(),
    check: Callable[[], None] = keep_on,
    subject: str = "{field}: decoding",
) -> Callable[Arguments, Answer]:
    """The same function of a module, run in a child; it takes keywords only.

    `check` is called while the child runs; what it raises ends the child. Raises what the function
    raises, and InvalidInput if the child is over its limits or dies. Its message begins with
    `subject`, which may contain arguments of the call. Raises OSError if this machine is short of
    disk (ENOSPC) or memory (ENOMEM) instead, which is no fault of the input.
    """

    def call(*_: Arguments.args, **arguments: Arguments.kwargs) -> Answer:
        shown = subject.format_map(arguments)
        request = {
            "module": function.__module__,
            "function": function.__name__,
            "arguments": arguments,
            "limits": asdict(limits),
        }
        with _Streams.open(json.dumps(request, default=str)) as streams:
            status = _run(streams, limits, check)
            if status != 0:
                _raise_if_short(status, shown)
                raise InvalidInput(f"{shown} {_cause(status, streams.stderr, limits)}")
            return _answer(function, streams.stdout, shown)

    return call


def main() -> None:
    """The child: reads one call from standard input, and answers it on standard output."""
    call = json.load(sys.stdin)
    _restrict(SandboxLimits(**call["limits"]))
    function = getattr(import_module(call["module"]), call["function"])
    try:
        print(json.dumps(_called(function, call["arguments"])), flush=True)
    except Exception as error:
        if system_errno(error) in FULL:
            sys.exit(DISK_FULL)
        raise


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """What a call returns, or the farm's error that it raises."""
    try:
        with redirect_stdout(sys.stderr):  # libraries print, too
            result = validate_call(function)(**arguments)
    except FarmError as error:
        if system_errno(error) in FULL:
            raise
        return {"code": error.code, "message": error.message, "retryable": error.retryable}
    return {"result": _result_type(function).dump_python(result, mode="json")}


class _Streams(NamedTuple):
    """The standard streams of a child, which are files: no pipe can fill, no list is too long."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    @classmethod
    @contextmanager
    def open(cls, request: str) -> Iterator[Self]:
        with ExitStack() as stack:
            streams = cls(*(stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)))
            streams.stdin.write(request.encode())
            streams.stdin.seek(0)
            yield streams


def _run(streams: _Streams, limits: SandboxLimits, check: Callable[[], None]) -> int:
    """The exit status of the child, or minus the signal that ended it."""
    deadline = time.monotonic() + limits.seconds
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # noqa: S603  # this interpreter and our own code
            [sys.executable, "-I", "-c", BOOT, str(ROOT)],
            **streams._asdict(),
            env=_environment(limits, folder),
            cwd="/",
            start_new_session=True,
        ) as child,
    ):
        try:
            while child.poll() is None:
                check()
                if time.monotonic() > deadline:
                    return -signal.SIGXCPU
                with suppress(subprocess.TimeoutExpired):
                    child.wait(POLL_INTERVAL_S)
            return child.returncode
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _environment(limits: SandboxLimits, folder: str) -> dict[str, str]:
    """All that the child knows: what it may start, compute with, and leave behind."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(limits.threads))
    return {"PATH": os.defpath, "TMPDIR": folder, **threads}


def _raise_if_short(status: int, shown: str) -> None:
    """OSError if this machine had no room for a child's files, or killed it to free memory."""
    if status == DISK_FULL:
        raise OSError(errno.ENOSPC, f"{shown} found the disk full")
    if status == -signal.SIGKILL:  # at its own limits it gets other signals
        raise OSError(errno.ENOMEM, f"{shown} was killed, most likely for lack of memory")


def _cause(status: int, stderr: IO[bytes], limits: SandboxLimits) -> str:
    """Why a child gave no answer."""
    stderr.seek(0)
    lines = stderr.read(MAX_ANSWER_BYTES).decode(errors="replace").strip().splitlines()
    last_line = lines[-1][:200] if lines else "no message"
    if status == -signal.SIGXCPU:
        return f"takes longer than the {limits.seconds:g} s that are allowed"
    if os.strerror(errno.EFBIG) in last_line:
        return f"writes more than the {limits.file_bytes / 1e9:.1f} GB that are allowed"
    is_out_of_memory = "MemoryError" in last_line.partition(":")[0]  # NumPy has one of its own
    if is_out_of_memory or os.strerror(errno.ENOMEM) in last_line:  # torch's is a RuntimeError
        return f"takes more than the {limits.memory_bytes / 1e9:.1f} GB that are allowed"
    if status < 0:
        return f"crashed ({signal.Signals(-status).name})"
    return f"failed ({last_line})"


def _answer(function: Callable[..., Answer], stdout: IO[bytes], subject: str) -> Answer:
    stdout.seek(0)
    try:
        answer = json.loads(stdout.read(MAX_ANSWER_BYTES))
        if "code" in answer:
            raise error_from_code(answer["code"], answer["message"], retryable=answer["retryable"])
        return _result_type(function).validate_python(answer["result"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InvalidInput(f"{subject} left an unreadable answer ({error})") from error


def _result_type(function: Callable[..., Answer]) -> TypeAdapter[Answer]:
    return TypeAdapter(get_type_hints(function)["return"])


def _restrict(limits: SandboxLimits) -> None:
    """Applies the limits to this process, for good."""
    import resource

    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if libc.unshare(CLONE_NEWNET):
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
        deny_network()  # also where neither is allowed, as in containers
    seconds = ceil(limits.seconds)
    cpu_s = seconds * limits.threads
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # SIGXCPU, then SIGKILL
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
