"""The priority of processes that nobody waits for yet."""

import os
import threading

import psutil

_LOW = 19  # the least of priorities


def lower_priority(pid: int) -> None:
    """Give a process what no other wants of the CPU."""
    os.setpriority(os.PRIO_PROCESS, pid, _LOW)


def raise_priority(pid: int) -> None:
    """Back to this process's own. Linux keeps one for each thread."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, pid, own)  # first: what it starts from now on has its own
    for thread in psutil.Process(pid).threads():
        os.setpriority(os.PRIO_PROCESS, thread.id, own)


def can_raise_priority() -> bool:
    """Whether this user may raise again what has been lowered: tried on a thread, which ends."""
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
