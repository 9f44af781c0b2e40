"""Landlock: a process takes rights from itself and from all processes that it starts, for good.

The kernel's interface, without a library: landlock(7) and linux/landlock.h. No right of root is
needed. Kernels from 5.13 on have it, unless they were started without it.
"""

import contextlib
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from work_pools.forking.c_library import call

# The same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag of _CREATE_RULESET: return the version of the interface
_PATH_BENEATH, _NET_PORT = 1, 2  # types of rules
_NO_NEW_PRIVS = 38  # prctl(2)

MOVES_FOLDERS = 2
"""The first version in which a folder can be renamed to another parent: Linux 5.19."""
_TRUNCATES, _BOUNDS_TCP, _SCOPES = 3, 4, 6


class Access(IntFlag):
    """Rights below a folder: to read, and to change what is there."""

    READ_FILE = 1 << 2
    WRITE_FILE = 1 << 1
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14


ALL = Access(sum(Access))
_OF_A_FILE = Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE
_TCP_BIND, _TCP_CONNECT = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2  # scopes


@dataclass(frozen=True)
class Rules:
    """What a process keeps."""

    rights: Mapping[Path, Access]
    """Rights below each folder, or to one file. What is not there, or may not be looked up, is left
    out."""
    reads_all: bool = True
    """Whether it may read all files, whatever its rights say."""
    tcp_ports: Iterable[int] | None = None
    """TCP ports that it may connect to, and none that it may listen at; None: any."""


def version() -> int:
    """The version of the kernel's interface; 0 where it has none."""
    try:
        return call("syscall", _CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(rules: Rules) -> None:
    """Take all rights to files from this process, but for those of the rules.

    Nor can it send signals to processes that it did not start, or use their abstract sockets. It
    applies to the calling thread, and to what that starts from now on. Parts that this kernel's
    version does not know are left out. Raises OSError where the kernel has no Landlock.
    """
    known = version()
    files = ALL if known >= _TRUNCATES else ALL & ~Access.TRUNCATE
    if rules.reads_all:
        files &= ~Access.READ_FILE
    bounded = rules.tcp_ports is not None and known >= _BOUNDS_TCP
    tcp = _TCP_BIND | _TCP_CONNECT if bounded else 0
    scopes = _ABSTRACT_SOCKETS | _SIGNALS if known >= _SCOPES else 0
    # Older versions refuse a structure with parts that they do not know, unless these are zero.
    handled = struct.pack("=QQQ", files, tcp, scopes)
    ruleset = call("syscall", _CREATE_RULESET, handled, len(handled), 0)
    try:
        for path, access in rules.rights.items():
            _add_path(ruleset, path, access & files)
        for port in rules.tcp_ports or () if bounded else ():
            call(
                "syscall", _ADD_RULE, ruleset, _NET_PORT, struct.pack("=QQ", _TCP_CONNECT, port), 0
            )
        call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
        call("syscall", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add_path(ruleset: int, path: Path, access: Access) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            allowed = access if path.is_dir() else access & _OF_A_FILE
            rule = struct.pack("=Qi", allowed, place)
            call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        finally:
            os.close(place)
