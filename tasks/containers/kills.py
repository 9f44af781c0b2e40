"""Detection of kills from outside a container, by the engine's events and the kernel's counter."""

import signal
import time
from pathlib import Path
from typing import Any, cast

import docker

from tasks.containers.engine import api, engine_call

_ENDING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_EVENT_DELAY = 1.0  # seconds by which the event of a signal may come after the container's exit


def signal_from_outside(client: docker.DockerClient, id: str, since: float, code: int) -> str:
    """The name of the signal, such as SIGKILL, that was sent to a container through the engine.

    Empty where there was none. Not for a container that this flow has stopped. `since`: the time of
    its start, seconds since 1970; `code`: its exit code. Raises EngineUnavailable.
    """
    # The engine may report the exit first. No delay where the code is not that of a signal: so a
    # `docker stop` that a program answers with exit code 0 may be missed.
    delay = _EVENT_DELAY if code > 128 else 0.0
    with engine_call("the engine's events cannot be read"):
        events = api(client).events(
            since=f"{since:.9f}",
            until=f"{time.time() + delay:.9f}",
            filters={"container": [id], "event": ["kill"]},
            decode=True,
        )
        for event in events:
            attributes: dict[str, str] = cast(dict[str, Any], event)["Actor"]["Attributes"]
            number = attributes.get("signal", "")
            if number.isdecimal() and int(number) in _ENDING:
                events.close()
                return signal.Signals(int(number)).name
    return ""


def host_memory_kills() -> int:
    """Number of processes that the kernel has killed for lack of memory, cgroup limits included."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0
