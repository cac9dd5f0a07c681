"""A filter of system calls that leaves a process and its children no network.

It needs no privilege, so it also holds in containers, where a process may have no network
namespace of its own.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

LOAD, IS_EQUAL, IS_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Codes of the kernel's packet filters (linux/bpf_common.h), on words of 32 bits."""

NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in what a filter sees of a call (struct seccomp_data), on little-endian machines."""

ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EACCES

AF_UNIX = 1
IO_URING_SETUP = 425
"""Opens sockets too, behind the back of a filter."""

X32 = 0x40000000
"""Numbers from here on are those of another set of calls of the same architecture."""

SOCKET_CALLS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""What a filter is told of an architecture (linux/audit.h), and its number of `socket`."""


def deny_network() -> bool:
    """Whether this process can open only local sockets from now on, with what it has loaded.

    False where the system has no such filters. For good: children inherit the filter.
    """
    if platform.machine() not in SOCKET_CALLS:
        return False
    architecture, socket = SOCKET_CALLS[platform.machine()]
    instructions = (  # code, how many are skipped if true and if false, value
        (LOAD, 0, 0, ARCHITECTURE),
        (IS_EQUAL, 0, 6, architecture),
        (LOAD, 0, 0, NUMBER),
        (IS_AT_LEAST, 4, 0, X32),
        (IS_EQUAL, 3, 0, IO_URING_SETUP),
        (IS_EQUAL, 0, 3, socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (IS_EQUAL, 1, 0, AF_UNIX),
        (RETURN, 0, 0, DENY),
        (RETURN, 0, 0, ALLOW),
    )
    code = b"".join(struct.pack("HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(instructions), ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) == 0  # type: ignore[no-any-return]
