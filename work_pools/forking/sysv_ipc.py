"""Removal of System V shared memory, semaphores and message queues, which outlive processes."""

import ctypes
from collections.abc import Generator
from pathlib import Path
from typing import Any

_IPC_RMID = 0  # shmctl(2), semctl(2), msgctl(2)


def remove_ipc_objects() -> None:
    """Remove all of them in this IPC namespace that this user has the right to remove."""
    library: Any = ctypes.CDLL(None)
    for id in _ids("shm"):
        library.shmctl(id, _IPC_RMID, None)
    for id in _ids("msg"):
        library.msgctl(id, _IPC_RMID, None)
    for id in _ids("sem"):
        library.semctl(id, 0, _IPC_RMID)


def _ids(kind: str) -> Generator[int]:
    table = Path("/proc/sysvipc") / kind
    if table.exists():  # some kernels are built without System V IPC
        for row in table.read_text().splitlines()[1:]:
            yield int(row.split()[1])
