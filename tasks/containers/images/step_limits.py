"""Bounds the processes of a build's steps.

The engine's builder takes limits for the memory and the CPU shares of a step, none for its
processes; a limit of the system for each user (ulimit) does not hold for root, which a step is. So
the container of a step gets its limit as soon as the engine has named it, which it does before it
starts it.
"""

import re
import time

import docker
from docker.errors import NotFound

from tasks.containers.engine import api, engine_outages
from tasks.errors import EngineUnavailable

MOST_PROCESSES = 1024
"""Processes and threads of a step."""
CPU_SHARES = 512
"""Of a step: half of a container's default."""
_STEP = "Step "
_RUNNING = re.compile(r"^ ---> Running in ([0-9a-f]{12,64})\s*$")
_ENDED = ("exited", "dead", "removing")
_DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds before the next attempt


class StepLimits:
    """The limits of the containers that one build creates.

    `memory`, `network`: those of the build's containers, by which they are told from others: a
    step may print what the engine prints.
    """

    def __init__(self, client: docker.DockerClient, memory: int, network: str) -> None:
        self._client = client
        self._made_as = {"Memory": memory, "CpuShares": CPU_SHARES, "NetworkMode": network}
        self._awaited = False

    def see(self, text: str) -> None:
        """Take note of what the engine prints, and limit the container that it has created.

        Raises EngineUnavailable where it cannot be limited.
        """
        if text.startswith(_STEP):
            self._awaited = True
        elif self._awaited and (found := _RUNNING.match(text)):
            self._awaited = False
            with engine_outages():
                self._limit(found[1])

    def _limit(self, container: str) -> None:
        engine = api(self._client)
        address = f"{engine.base_url}/v{engine.api_version}/containers/{container}/update"
        refusal = ""
        for delay in _DELAYS:
            try:
                details = engine.inspect_container(container)
            except NotFound:
                return
            host = details["HostConfig"]
            is_ours = all(host[name] == given for name, given in self._made_as.items())
            if host["PidsLimit"] or not is_ours or details["State"]["Status"] in _ENDED:
                return
            # Docker's client for Python does not know this limit here.
            limit = {"PidsLimit": MOST_PROCESSES}
            response = engine.post(address, json=limit, timeout=engine.timeout)
            if response.ok:
                return
            refusal = " ".join(response.text.split())[:300]
            time.sleep(delay)  # it is starting or ending
        raise EngineUnavailable(f"the processes of a build step cannot be limited: {refusal}")
