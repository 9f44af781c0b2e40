"""Capabilities of root that a job has no use for: capabilities(7).

The process of a job is root's only where the worker is, on the pool `process`.
"""

import contextlib
import ctypes
import os
import struct
from pathlib import Path

from work_pools.forking.c_library import call

_DROP_FROM_BOUNDING_SET = 24  # prctl(2)
_VERSION = 0x20080522  # of capset(2): 64 capabilities
# Changing owners, reading and writing all files, changing user and group: what programs expect that
# run as root. Not among them: to look into other processes, to mount, load modules, use devices and
# the network's settings, and to trace.
_KEPT = sum(1 << number for number in range(8))
_LAST = Path("/proc/sys/kernel/cap_last_cap")
_HALF = 0xFFFFFFFF


def keep_those_for_files() -> None:
    """Take all capabilities from this process, and from what it starts, but those for files.

    Raises OSError where the kernel refuses.
    """
    if os.geteuid() != 0:
        return
    for number in range(int(_LAST.read_text()) + 1):
        if not _KEPT >> number & 1:
            # Refused where it is dropped already: what a process may add, it may also take away.
            with contextlib.suppress(PermissionError):
                call("prctl", _DROP_FROM_BOUNDING_SET, number, 0, 0, 0)
    header = struct.pack("=Ii", _VERSION, 0)
    before = ctypes.create_string_buffer(24)
    call("capget", header, before)
    sets = struct.unpack("=6I", before.raw)
    # Effective, permitted and inheritable of the lower 32, then of the upper.
    kept = [value & (_KEPT >> (32 * (place // 3)) & _HALF) for place, value in enumerate(sets)]
    call("capset", header, struct.pack("=6I", *kept))
