"""Who ended a container: the engine's events name every signal that was sent through the engine."""

import signal
import time
from pathlib import Path
from typing import Any, cast

import docker

from tasks.containers.engine import api, asking

_ENDING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_PATIENCE = 1.0  # seconds in which the engine reports a signal after the end that it brought


def signal_from_outside(client: docker.DockerClient, id: str, since: float, code: int) -> str:
    """The signal, such as SIGKILL, with which somebody ended a container through the engine.

    Empty where nobody has. Only for one that we have not stopped ourselves. `since`: the time of
    its start, seconds since 1970; `code`: its exit code. Raises EngineUnavailable.
    """
    # The engine may report the end first. Only where the code says nothing of a signal it is not
    # waited for: docker stop of a program that ends well then.
    patience = _PATIENCE if code > 128 else 0.0
    with asking("the engine's events cannot be read"):
        events = api(client).events(
            since=f"{since:.9f}",
            until=f"{time.time() + patience:.9f}",
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
    """How many processes this host's kernel has killed for want of memory, limits included."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0
