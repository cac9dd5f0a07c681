"""Each is tried in a process of its own, which cannot be without the filter again."""

import subprocess
import sys

import pytest

from farm.media.no_network import IO_URING_SETUP

DENIED = "from farm.media.no_network import deny_network; assert deny_network()"


def run_denied(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"{DENIED}\n{code}"], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"])
def test_no_socket_to_a_network_opens(family: str) -> None:
    found = run_denied(f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM)")
    assert "PermissionError" in found


def test_children_open_none_either() -> None:
    child = "import socket; socket.socket()"
    found = run_denied(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert "PermissionError" in found


def test_no_ring_opens_one_behind_the_back_of_the_filter() -> None:
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall({IO_URING_SETUP}, 1, 0), ctypes.get_errno())
"""
    assert run_denied(code).split() == ["-1", "13"]


def test_local_sockets_and_files_work() -> None:
    code = """
import socket, tempfile
one, other = socket.socketpair()
one.send(b"here")
socket.socket(socket.AF_UNIX)
tempfile.TemporaryFile().write(b"x")
print(other.recv(4))
"""
    assert run_denied(code).strip() == "b'here'"
