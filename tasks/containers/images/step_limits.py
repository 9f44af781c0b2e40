"""Bounds the processes of a build's steps.

The engine's builder takes limits for the memory and the CPU shares of a step, none for its
processes; a limit of the system for each user (ulimit) does not hold for root, which a step is. So
the container of a step gets its limit as soon as the engine has named it, which it does before it
starts it.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import docker
from docker.errors import NotFound

from tasks.containers.engine import api, engine_outages
from tasks.errors import EngineUnavailable

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


class StepLimits:
    """The limits of the containers that one build creates.

    Through the broker, which limits them itself, there is nothing left to do. `memory`, `network`:
    see Watch.
    """

    def __init__(self, client: docker.DockerClient, memory: int, network: str) -> None:
        self._client = client
        self._watch = Watch(memory, network)

    def see(self, text: str) -> None:
        """Take note of what the engine prints, and limit the container that it has created.

        Raises EngineUnavailable where it cannot be limited.
        """
        if container := self._watch.created(text):
            with engine_outages():
                self._limit(container)

    def _limit(self, container: str) -> None:
        engine = api(self._client)
        address = f"{engine.base_url}/v{engine.api_version}/containers/{container}/update"
        refusal = ""
        for delay in DELAYS:
            try:
                details = engine.inspect_container(container)
            except NotFound:
                return
            if not self._watch.is_to_limit(details):
                return
            # Docker's client for Python does not know this limit here.
            limit = {"PidsLimit": MOST_PROCESSES}
            response = engine.post(address, json=limit, timeout=engine.timeout)
            if response.ok:
                return
            refusal = " ".join(response.text.split())[:300]
            time.sleep(delay)  # it is starting or ending
        raise EngineUnavailable(f"the processes of a build step cannot be limited: {refusal}")
