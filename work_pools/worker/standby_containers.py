"""The containers that one worker keeps for jobs, and hands runs to."""

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
from work_pools.worker.container_plan import plan_of
from work_pools.worker.standby_container import (
    ENGINE_ERRORS,
    ENGINE_TIMEOUT,
    Standby,
    remove_container,
)

_OLD = 3600.0  # seconds after which a container takes no more runs
_IDLE = 60.0  # seconds after which a standby beyond `most` is removed


class Standbys:
    """The containers that one worker keeps: see Waiting.

    `most`: how many are kept on standby. `slots`: how many jobs the worker runs at once, and so how
    many containers are of use. `runs`: how many runs one serves, 1 to have a new one for each. One
    is started while the host has as much memory to spare as it may take.
    """

    errors = ENGINE_ERRORS
    """See Waiting: the engine is away, or refuses."""

    def __init__(self, most: int, slots: int, runs: int) -> None:
        self._most = most
        self._slots = slots
        self._runs = runs
        self._client: docker.DockerClient | None = None
        self._waiting: list[Standby] = []
        # By id: what serves, which run, and whether that is its last.
        self._serving: dict[str, tuple[Standby, UUID, bool]] = {}
        self._lock = threading.Lock()

    def identifier_of(self, taken: str) -> str:
        """See Waiting: the engine's address, and the container's id."""
        return f"{self._engine().api.base_url}:{taken}"

    def take(self, configuration: DockerWorkerJobConfiguration, run: UUID) -> str | None:
        """See Waiting."""
        plan = plan_of(configuration, self._engine())
        if plan is None:
            return None
        with self._lock:
            fit = [
                one
                for one in self._waiting
                if one.container == plan.container and not (plan.fresh and one.served)
            ]
            # The one that was in use last: what is more than is needed is idle the longer.
            chosen = max(fit, key=lambda one: one.idle_since, default=None)
            if chosen is None:
                return None
            self._waiting.remove(chosen)
            last = plan.fresh or chosen.served + 1 >= self._runs
            self._serving[chosen.id] = chosen, run, last
        try:
            if chosen.is_good():
                chosen.hand(run, configuration.name, plan.variables, last)
            else:
                self._give_up(chosen)
                return None
        except ENGINE_ERRORS:
            self._give_up(chosen)
            return None
        return chosen.id

    def follow(self, taken: str) -> int:
        """See Waiting. Prints meanwhile what the container prints."""
        standby, run, _ = self._serving[taken]
        again = False
        try:
            code = standby.follow(run)
            again = code is None
            return code or 0
        except NotFound:
            return 0  # the supervisor removed it, and has set the run's final state
        finally:
            self._end_of(standby, again)

    def keep(self, configuration: DockerWorkerJobConfiguration) -> bool:
        """See Waiting."""
        client = self._engine()
        plan = plan_of(configuration, client)
        with self._lock:
            listed = list(self._waiting)
        for one in listed:
            useful = plan is not None and one.container == plan.container and self._is_of_use(one)
            if not useful and self._withdraw(one):
                one.put_away()
        if plan is None or not self._is_missing() or not _has_room(configuration):
            return False
        made = Standby(client, plan.container)
        with self._lock:
            self._waiting.append(made)
        return self._is_missing()

    def remove_left(self, worker: str) -> None:
        """See Waiting."""
        labels = [LABEL, f"io.prefect.worker-name={worker}"]
        api: Any = self._engine().api
        for entry in api.containers(all=True, filters={"label": labels}):
            if is_standby(entry["Labels"], entry["Names"] or ()):
                remove_container(api, entry["Id"])

    def close(self) -> None:
        """See Waiting."""
        with self._lock:
            listed, self._waiting = self._waiting, []
        for one in listed:
            one.put_away()
        if self._client is not None:
            self._client.close()

    def _engine(self) -> docker.DockerClient:
        if self._client is None:
            self._client = docker.from_env(timeout=ENGINE_TIMEOUT)
        return self._client

    def _is_missing(self) -> bool:
        """Whether another container is to be started. None is where the slots are all in use: those
        that serve come back."""
        with self._lock:
            known = len(self._waiting) + sum(not last for _, _, last in self._serving.values())
            return len(self._waiting) < self._most and known < self._slots

    def _is_of_use(self, one: Standby) -> bool:
        with self._lock:
            spare = len(self._waiting) > self._most
        now = time.monotonic()
        if (spare and now - one.idle_since > _IDLE) or now - one.made > _OLD:
            return False
        return one.is_good()

    def _give_up(self, one: Standby) -> None:
        """One could not be handed a run, and must not begin it later."""
        self._end_of(one, again=False)
        one.put_away()

    def _withdraw(self, one: Standby) -> bool:
        """Take one out of those that wait. False where it serves a run by now."""
        with self._lock:
            if one not in self._waiting:
                return False
            self._waiting.remove(one)
            return True

    def _end_of(self, one: Standby, again: bool) -> None:
        """One serves no more: it waits again, or has ended."""
        with self._lock:
            del self._serving[one.id]
            if again:
                self._waiting.append(one)
        if not again:
            one.let_go()


def _has_room(configuration: DockerWorkerJobConfiguration) -> bool:
    limit = configuration.mem_limit
    return limit is None or psutil.virtual_memory().available >= size_in_bytes(limit)
