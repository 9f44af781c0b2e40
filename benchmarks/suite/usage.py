"""Measures CPU time of the whole machine, and peak memory of each container."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support import processes
from tests.support.platform import Platform

_TICKS = 100  # a second: USER_HZ, which /proc/stat counts in on every Linux
_INTERVAL = 0.02  # seconds between two samples
# Version 1 of control groups, and version 2 under either driver.
_PEAKS = (
    "memory/docker/*/memory.max_usage_in_bytes",
    "docker/*/memory.peak",
    "system.slice/docker-*.scope/memory.peak",
)


@dataclass
class Usage:
    """The usage of a measured period."""

    cpu: float = 0.0
    """Seconds of CPU of all processes on the machine and the kernel."""
    peaks: dict[str, int] = field(default_factory=dict[str, int])
    """Peak memory in bytes, by container."""


@contextmanager
def used() -> Generator[Usage]:
    """Measure the usage while the block runs; no other program may run on the machine."""
    usage, over = Usage(), threading.Event()
    watching = threading.Thread(target=_watch, args=(usage, over))
    before = _busy()
    watching.start()
    try:
        yield usage
    finally:
        over.set()
        watching.join()
        usage.cpu = _busy() - before


def server_memory(up: Platform, field: Literal["VmRSS", "VmHWM"]) -> float:
    """Memory of the server of a Prefecture in MiB: now (VmRSS), or its maximum (VmHWM)."""
    statuses = [Path(f"/proc/{one.pid}/status").read_text() for one in processes.server(up)]
    return max(int(one.split(f"{field}:")[1].split()[0]) for one in statuses) / 1024  # from KiB


def _busy() -> float:
    """Seconds of CPU that all cores together have used since the start of the machine."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _watch(usage: Usage, over: threading.Event) -> None:
    root = Path("/sys/fs/cgroup")
    while not over.wait(_INTERVAL):
        for pattern in _PEAKS:
            for path in root.glob(pattern):
                try:
                    peak = int(path.read_text())
                except OSError:
                    continue  # the container is gone
                name = path.parent.name
                usage.peaks[name] = max(usage.peaks.get(name, 0), peak)
