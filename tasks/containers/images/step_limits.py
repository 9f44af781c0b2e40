"""Bounds the processes of a build's steps.

The engine's builder takes limits for the memory and the CPU shares of a step, none for its
processes; a limit of the system for each user (ulimit) does not hold for root, which a step is. So
the container of a step gets its limit as soon as the engine has named it, which it does before it
starts it.
"""

import time

import docker
from docker.errors import NotFound

from tasks.containers.engine import api, engine_outages
from tasks.containers.images.steps import DELAYS, MOST_PROCESSES, Watch
from tasks.errors import EngineUnavailable


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
