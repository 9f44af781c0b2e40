"""CPU priority of fork servers: lowest while they prepare, normal once they have a run."""

import os
import threading

import psutil

_LOW = 19  # the lowest priority


def lower_priority(pid: int) -> None:
    """Give a process the lowest CPU priority."""
    os.setpriority(os.PRIO_PROCESS, pid, _LOW)


def raise_priority(pid: int) -> None:
    """Give a process and all its threads the priority of this process.

    Linux keeps a priority for each thread. Raises NoSuchProcess where the process has ended.
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, pid, own)  # first: threads that start later inherit it
    for thread in psutil.Process(pid).threads():
        os.setpriority(os.PRIO_PROCESS, thread.id, own)


def can_raise_priority() -> bool:
    """Whether this user may undo a lowered priority: tried on a thread, which then ends."""
    outcome: list[bool] = []

    def probe() -> None:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, own + 1)
            os.setpriority(os.PRIO_PROCESS, 0, own)
            outcome.append(True)
        except OSError:
            outcome.append(False)

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return outcome == [True]
