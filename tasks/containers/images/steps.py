"""The containers of a build's steps, found in what the engine says of the build."""

import re
from collections.abc import Mapping
from typing import Any

MOST_PROCESSES = 1024
"""Processes and threads of a step."""
CPU_SHARES = 512
"""Of a step: half of a container's default."""
DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds before the next attempt to set a limit."""
_STEP = "Step "
_RUNNING = re.compile(r"^ ---> Running in ([0-9a-f]{12,64})\s*$")
_ENDED = ("exited", "dead", "removing")


class Watch:
    """Finds the containers of a build's steps in what the engine says of the build.

    `memory`, `network`: those of the build's containers, by which they are told from others: a
    step may print what the engine prints.
    """

    def __init__(self, memory: int, network: str) -> None:
        self._made_as = {"Memory": memory, "CpuShares": CPU_SHARES, "NetworkMode": network}
        self._awaited = False

    def created(self, text: str) -> str | None:
        """The container that a line of the engine is about; None for any other line."""
        if text.startswith(_STEP):
            self._awaited = True
        elif self._awaited and (found := _RUNNING.match(text)):
            self._awaited = False
            return found[1]
        return None

    def is_to_limit(self, details: Mapping[str, Any]) -> bool:
        """Whether a container is that of a step, and has no limit yet."""
        host = details["HostConfig"]
        is_ours = all(host[name] == given for name, given in self._made_as.items())
        return is_ours and not host["PidsLimit"] and details["State"]["Status"] not in _ENDED
