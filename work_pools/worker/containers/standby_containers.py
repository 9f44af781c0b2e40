"""The standby containers of one worker."""

import threading
import time
from typing import Any
from uuid import UUID

import docker
import psutil
from docker.errors import NotFound
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import size_in_bytes
from work_pools.standby import LABEL, is_standby
from work_pools.worker.containers.plan import plan_of
from work_pools.worker.containers.standby_container import (
    ENGINE_ERRORS,
    ENGINE_TIMEOUT,
    Standby,
    remove_container,
)

_MAX_AGE = 3600.0  # seconds after which a container takes no more runs
_IDLE = 60.0  # seconds after which a standby beyond `most` is removed


class StandbyContainers:
    """The standby containers of one worker, a StandbyManager.

    `most`: how many idle containers are kept. `slots`: how many jobs the worker runs at once, the
    most containers that are useful. `runs`: how many runs each container serves. A container is
    started only while the host's available memory is at least its memory limit.
    """

    errors = ENGINE_ERRORS
    """See StandbyManager: the engine refuses, or does not answer."""

    def __init__(self, most: int, slots: int, runs: int) -> None:
        self._most = most
        self._slots = slots
        self._runs = runs
        self._client: docker.DockerClient | None = None
        self._idle: list[Standby] = []
        # By container id: the container, its run, and whether that run is its last.
        self._serving: dict[str, tuple[Standby, UUID, bool]] = {}
        self._lock = threading.Lock()

    def identifier_of(self, instance: str) -> str:
        """See StandbyManager: the engine's address, and the container's id."""
        return f"{self._engine().api.base_url}:{instance}"

    def take(self, configuration: DockerWorkerJobConfiguration, run: UUID) -> str | None:
        """See StandbyManager."""
        plan = plan_of(configuration, self._engine())
        if plan is None:
            return None
        with self._lock:
            fit = [
                one
                for one in self._idle
                if one.container == plan.container and not (plan.fresh and one.served)
            ]
            # The last one used, so that containers beyond the demand stay idle and are removed.
            chosen = max(fit, key=lambda one: one.idle_since, default=None)
            if chosen is None:
                return None
            self._idle.remove(chosen)
            last = plan.fresh or chosen.served + 1 >= self._runs
            self._serving[chosen.id] = chosen, run, last
        try:
            if chosen.is_good():
                chosen.assign(run, configuration.name, plan.variables, last)
            else:
                self._give_up(chosen)
                return None
        except ENGINE_ERRORS:
            self._give_up(chosen)
            return None
        return chosen.id

    def follow(self, instance: str) -> int:
        """See StandbyManager. Also prints the container's output."""
        standby, run, _ = self._serving[instance]
        reusable = False
        try:
            code = standby.follow(run)
            reusable = code is None
            return code or 0
        except NotFound:
            return 0  # the supervisor removed it, and set the run's final state
        finally:
            self._end_of(standby, reusable)

    def replenish(self, configuration: DockerWorkerJobConfiguration) -> bool:
        """See StandbyManager."""
        client = self._engine()
        plan = plan_of(configuration, client)
        with self._lock:
            listed = list(self._idle)
        for one in listed:
            useful = plan is not None and one.container == plan.container and self._is_of_use(one)
            if not useful and self._withdraw(one):
                one.remove()
        if plan is None or not self._is_missing() or not _has_room(configuration):
            return False
        made = Standby(client, plan.container)
        with self._lock:
            self._idle.append(made)
        return self._is_missing()

    def remove_leftovers(self, worker: str) -> None:
        """See StandbyManager."""
        labels = [LABEL, f"io.prefect.worker-name={worker}"]
        api: Any = self._engine().api
        for entry in api.containers(all=True, filters={"label": labels}):
            if is_standby(entry["Labels"], entry["Names"] or ()):
                remove_container(api, entry["Id"])

    def close(self) -> None:
        """See StandbyManager."""
        with self._lock:
            listed, self._idle = self._idle, []
        for one in listed:
            one.remove()
        if self._client is not None:
            self._client.close()

    def _engine(self) -> docker.DockerClient:
        if self._client is None:
            self._client = docker.from_env(timeout=ENGINE_TIMEOUT)
        return self._client

    def _is_missing(self) -> bool:
        """Whether another container is to be started. Containers in use count: they come back."""
        with self._lock:
            known = len(self._idle) + sum(not last for _, _, last in self._serving.values())
            return len(self._idle) < self._most and known < self._slots

    def _is_of_use(self, one: Standby) -> bool:
        with self._lock:
            spare = len(self._idle) > self._most
        now = time.monotonic()
        if (spare and now - one.idle_since > _IDLE) or now - one.made > _MAX_AGE:
            return False
        return one.is_good()

    def _give_up(self, one: Standby) -> None:
        """Remove a container that did not accept a run, so that it cannot start the run later."""
        self._end_of(one, reusable=False)
        one.remove()

    def _withdraw(self, one: Standby) -> bool:
        """Take a container out of the idle ones. False where it has a run by now."""
        with self._lock:
            if one not in self._idle:
                return False
            self._idle.remove(one)
            return True

    def _end_of(self, one: Standby, reusable: bool) -> None:
        """Record the end of a container's run. `reusable`: whether it can serve another run."""
        with self._lock:
            del self._serving[one.id]
            if reusable:
                self._idle.append(one)
        if not reusable:
            one.detach()


def _has_room(configuration: DockerWorkerJobConfiguration) -> bool:
    limit = configuration.mem_limit
    return limit is None or psutil.virtual_memory().available >= size_in_bytes(limit)
