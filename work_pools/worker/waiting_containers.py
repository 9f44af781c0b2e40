"""Containers that wait for a run: made, handed one, put away."""

import json
import os
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import docker
import psutil
import requests
from docker.errors import APIError, DockerException, NotFound
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import size_in_bytes
from work_pools.ahead import LABEL, name_of, split_variables, waits
from work_pools.engine import AHEAD

_ENGINE_ERRORS = (DockerException, requests.RequestException, OSError)
_COMMAND = "python -m work_pools.engine"  # of every job; the only one that can wait: see there
_LABELS_OF_THE_RUN = ("io.prefect.flow", "io.prefect.deployment")
# A waiting container gets what no job wants; one that serves, what every container gets.
_LOW_SHARES, _SHARES = 2, 1024
_TIMEOUT = 60  # seconds for one answer of the engine, as Prefect's worker


@dataclass(frozen=True)
class Plan:
    """What a job's configuration asks for, with what is of its run alone apart."""

    container: Mapping[str, Any]
    """As Docker's client is told."""
    variables: Mapping[str, str]
    """Of the environment: the run's own."""


@dataclass(frozen=True)
class _Waiting:
    id: str
    stdin: Any
    """Held open: where this process ends, whatever becomes of it, the container reads an end."""
    container: Mapping[str, Any]
    """What it was made as: it serves runs that ask for exactly this."""


class WaitingContainers:
    """The containers that one worker has started ahead: see Waiting.

    `most`: how many wait at once. One waits while the host has as much memory to spare as it may
    take.
    """

    errors = _ENGINE_ERRORS
    """See Waiting: the engine is away, or refuses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._client: docker.DockerClient | None = None
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()

    def identifier_of(self, taken: str) -> str:
        """See Waiting: the engine's address, and the container's id."""
        return f"{self._engine().api.base_url}:{taken}"

    def take(self, configuration: DockerWorkerJobConfiguration, run: UUID) -> str | None:
        """See Waiting."""
        plan = plan_of(configuration, self._engine())
        with self._lock:
            found = [one for one in self._waiting if plan and one.container == plan.container]
            if plan is None or not found:
                return None
            chosen = found[0]
            self._waiting.remove(chosen)
        try:
            if not self._is_good(chosen):
                self._put_away(chosen)
                return None
            api: Any = self._engine().api
            # The name comes last: whoever finds it by that finds it as any other.
            api.update_container(chosen.id, cpu_shares=_SHARES)
            api.rename(chosen.id, name_of(configuration.name, run))
            _send(chosen.stdin, json.dumps(dict(plan.variables)).encode() + b"\n")
        except _ENGINE_ERRORS:
            self._put_away(chosen)
            return None
        chosen.stdin.close()
        return chosen.id

    def follow(self, taken: str) -> int:
        """See Waiting. Prints meanwhile what the container prints."""
        api: Any = self._engine().api
        try:
            for output in api.logs(taken, stream=True, follow=True):
                print(output.decode(errors="replace").rstrip(), flush=True)
            return int(api.wait(taken)["StatusCode"])
        except NotFound:
            return 0  # whoever removed it has said how the run ended, as with any container

    def keep(self, configuration: DockerWorkerJobConfiguration) -> bool:
        """See Waiting."""
        client = self._engine()
        plan = plan_of(configuration, client)
        with self._lock:
            listed = list(self._waiting)
        for one in listed:
            if plan is None or one.container != plan.container or not self._is_good(one):
                with self._lock:
                    if one not in self._waiting:
                        continue  # it serves a run by now
                    self._waiting.remove(one)
                self._put_away(one)
        if plan is None or not self._has_room(configuration):
            return False
        waiting = _start(client, plan)
        with self._lock:
            self._waiting.append(waiting)
            return len(self._waiting) < self._most

    def remove_left(self, worker: str) -> None:
        """See Waiting."""
        labels = [LABEL, f"io.prefect.worker-name={worker}"]
        api: Any = self._engine().api
        for entry in api.containers(all=True, filters={"label": labels}):
            if waits(entry["Labels"], entry["Names"] or ()):
                _remove(api, entry["Id"])

    def close(self) -> None:
        """See Waiting."""
        with self._lock:
            listed, self._waiting = self._waiting, []
        for one in listed:
            self._put_away(one)
        if self._client is not None:
            self._client.close()

    def _engine(self) -> docker.DockerClient:
        if self._client is None:
            self._client = docker.from_env(timeout=_TIMEOUT)
        return self._client

    def _has_room(self, configuration: DockerWorkerJobConfiguration) -> bool:
        with self._lock:
            if len(self._waiting) >= self._most:
                return False
        limit = configuration.mem_limit
        return limit is None or psutil.virtual_memory().available >= size_in_bytes(limit)

    def _is_good(self, one: _Waiting) -> bool:
        """Whether a container lives, and is of what its image's name means now."""
        api: Any = self._engine().api
        try:
            details = api.inspect_container(one.id)
            image = api.inspect_image(one.container["image"])
        except NotFound:
            return False
        return bool(details["State"]["Running"]) and details["Image"] == image["Id"]

    def _put_away(self, one: _Waiting) -> None:
        one.stdin.close()
        _remove(self._engine().api, one.id)


def plan_of(
    configuration: DockerWorkerJobConfiguration, client: docker.DockerClient
) -> Plan | None:
    """What a configuration asks for; None where no container that waits could serve it."""
    extra = {
        key: value
        for key, value in (configuration.container_create_kwargs or {}).items()
        if key not in type(configuration).model_fields
    }
    if (
        configuration.command != _COMMAND
        or len(configuration.networks) > 1
        or configuration.auto_remove
        or "extra_hosts" in extra
    ):
        return None
    environment, of_the_run = split_variables(configuration.env)
    labels: Mapping[str, str] = configuration.labels or {}
    return Plan(
        container={
            "image": configuration.image,
            "command": shlex.split(_COMMAND),
            "environment": environment,
            "labels": {k: v for k, v in labels.items() if not k.startswith(_LABELS_OF_THE_RUN)},
            "network": configuration.networks[0] if configuration.networks else None,
            "network_mode": configuration.get_network_mode(),
            "extra_hosts": configuration.get_extra_hosts(client),
            "volumes": configuration.volumes,
            "mem_limit": configuration.mem_limit,
            "memswap_limit": configuration.memswap_limit,
            "privileged": configuration.privileged,
            **extra,
        },
        variables=of_the_run,
    )


def _start(client: docker.DockerClient, plan: Plan) -> _Waiting:
    create: Any = client.containers.create  # its stubs know each argument by itself only
    made = create(
        **{
            **plan.container,
            "command": [*plan.container["command"], AHEAD],
            "labels": {**plan.container["labels"], LABEL: "yes"},
        },
        name=f"ahead-{uuid4().hex[:12]}",
        stdin_open=True,
        cpu_shares=_LOW_SHARES,
    )
    try:
        # Before it starts: it must not read before there is someone to be gone.
        api: Any = client.api
        stdin = api.attach_socket(made.id, params={"stdin": 1, "stream": 1})
        made.start()
    except _ENGINE_ERRORS:
        _remove(client.api, str(made.id))
        raise
    return _Waiting(str(made.id), stdin, plan.container)


def _send(stdin: Any, data: bytes) -> None:
    while data:
        data = data[os.write(stdin.fileno(), data) :]


def _remove(api: Any, container: str) -> None:
    try:
        api.remove_container(container, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # 409: a removal is under way already
            raise
