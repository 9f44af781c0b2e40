"""The containers of attempts on this host's Docker engine."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from tasks.contracts import BUILT_REPOSITORY, SECRETS_VOLUME, SIBLING_LABEL
from tasks.errors import EngineUnavailable
from work_pools.standby import run_of
from work_pools.supervisor.infrastructure.instance import Exit, Found, Instance
from work_pools.supervisor.infrastructure.threads import in_thread

_KIND = "prefecture"  # label of all our containers: "job", from the pool's template, or "sibling"
_OURS = f"{_KIND}=job"
_WORKER = "io.prefect.worker-name"  # set by Prefect's Docker worker
_ALIVE = frozenset({"running", "paused", "restarting"})
_TIMEOUT = 15  # seconds for one answer of the engine
_PING_TIMEOUT = 3  # seconds for the answer to a ping
_TAIL = 20  # last lines of output that an Exit has
_CONFLICT = 409
_log = logging.getLogger(__name__)


class Containers:
    """The containers of jobs on this host's engine, started by any worker."""

    def __init__(self) -> None:
        self._client: docker.DockerClient | None = None
        self._root: str | None = None
        self._finding = asyncio.Lock()
        self._exited: dict[str, Instance] = {}  # by container id: cached, as they do not change

    async def find(self) -> Found:
        """See Instances."""
        async with self._finding:  # two threads must not change the cache of exits
            return await asyncio.to_thread(self._find)

    async def stop(self, instance: Instance, grace: float) -> None:
        """See Instances."""

        def stop(client: docker.DockerClient) -> None:
            if _is_still(client, instance):
                _api(client).stop(instance.id, timeout=max(1, round(grace)))
                _api(client).wait(instance.id, timeout=_TIMEOUT)

        await in_thread(self._call, stop)

    async def remove(self, instance: Instance) -> None:
        """See Instances."""

        def remove(client: docker.DockerClient) -> None:
            if _is_still(client, instance):
                _api(client).remove_container(instance.id, force=True, v=True)
            if instance.sibling:
                with contextlib.suppress(APIError):  # it has none, or another container uses it
                    _api(client).remove_volume(f"{SECRETS_VOLUME}{instance.run}")

        await in_thread(self._call, remove)

    async def built(self) -> Mapping[UUID, str]:
        """See Instances."""

        def listed(client: docker.DockerClient) -> list[str]:
            images: list[dict[str, Any]] = _api(client).images(name=BUILT_REPOSITORY)
            return [tag for image in images for tag in image["RepoTags"] or ()]

        tags: list[str] = await asyncio.to_thread(self._call, listed) or []
        built: dict[UUID, str] = {}
        for tag in tags:
            with contextlib.suppress(ValueError):  # not ours, in spite of its name
                built[UUID(tag.partition(":")[2])] = tag
        return built

    async def remove_image(self, name: str) -> None:
        """See Instances."""

        def remove(client: docker.DockerClient) -> None:
            _api(client).remove_image(name, force=True, noprune=True)

        await in_thread(self._call, remove)

    async def exits(self) -> AsyncIterator[None]:
        """See Instances. Raises EngineUnavailable when the engine stops."""
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue[bool]()

        def put(alive: bool) -> None:
            # The loop may already be closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, alive)

        client = await asyncio.to_thread(_connect, None)

        def listen() -> None:
            # Closing the client in the other thread raises almost any error here.
            with contextlib.suppress(
                requests.RequestException, DockerException, OSError, ValueError
            ):
                filters = {"type": "container", "event": "die", "label": _OURS}
                for _ in client.events(filters=filters):
                    put(True)
            put(False)

        threading.Thread(target=listen, daemon=True, name="docker-events").start()
        try:
            yield
            while await queue.get():
                yield
        finally:
            client.close()
        raise EngineUnavailable("the Docker engine has ended")

    async def close(self) -> None:
        """See Instances."""
        if self._client is not None:
            self._client.close()

    def ping(self) -> None:
        """Check that the engine answers on a new connection within 3 s. Raises EngineUnavailable.

        A stopped engine keeps its old connections open without answering on them.
        """
        _connect(_PING_TIMEOUT).close()

    def root(self) -> str:
        """The engine's own folder, which holds images and containers."""
        if self._root is None:
            self._root = str(self._call(lambda client: client.info())["DockerRootDir"])
        return self._root

    def runtimes(self) -> set[str]:
        """The names of the engine's runtimes. Raises EngineUnavailable."""
        return set(self._call(lambda client: client.info())["Runtimes"])

    def _call(self, call: Callable[[docker.DockerClient], Any]) -> Any:
        """Call the engine. Returns its answer; None where it refuses, or the object is gone.

        Raises EngineUnavailable where the engine does not answer.
        """
        if self._client is None:
            self._client = _connect(_TIMEOUT)
        try:
            return call(self._client)
        except NotFound:
            return None
        except APIError as error:
            if error.status_code != _CONFLICT:
                _log.warning("the Docker engine refuses: %s", error)
            return None
        except (requests.RequestException, DockerException, OSError) as error:
            raise EngineUnavailable(f"the Docker engine does not answer: {error}") from error

    def _find(self) -> Found:
        found: dict[UUID, list[Instance]] = {}
        listed: list[dict[str, Any]] = self._call(
            lambda client: _api(client).containers(all=True, filters={"label": _KIND})
        )
        if listed is None:  # pyright: ignore[reportUnnecessaryComparison]  # a refusal, see _call
            raise EngineUnavailable("the Docker engine does not list its containers")
        for entry in listed:
            run = run_of(entry["Labels"], entry["Names"] or ())
            if run is not None and (instance := self._instance(run, entry)) is not None:
                found.setdefault(instance.run, []).append(instance)
        here = {entry["Id"] for entry in listed}
        self._exited = {key: instance for key, instance in self._exited.items() if key in here}
        return found

    def _instance(self, run: UUID, entry: dict[str, Any]) -> Instance | None:
        id = str(entry["Id"])
        worker = entry["Labels"].get(_WORKER)
        made = datetime.fromtimestamp(entry["Created"], UTC)
        sibling = entry["Labels"][_KIND] == SIBLING_LABEL
        if sibling or entry["State"] in _ALIVE:
            alive = entry["State"] in _ALIVE
            return Instance(run, id, alive, made, worker, sibling=sibling)
        if id not in self._exited:
            details = self._call(lambda client: _api(client).inspect_container(id))
            if details is None:
                return None
            state: dict[str, Any] = details["State"]
            if entry["State"] == "created" and not state["ExitCode"]:
                return Instance(run, id, False, made, worker)  # never started, or not yet
            self._exited[id] = Instance(
                run,
                id,
                False,
                _time(state["FinishedAt"]) or made,
                worker,
                self._exit_of(id, details),
            )
        return self._exited[id]

    def _exit_of(self, id: str, details: dict[str, Any]) -> Exit:
        state = details["State"]
        tail: bytes = (
            self._call(lambda client: _api(client).logs(id, tail=_TAIL)) or b""
            if state["ExitCode"]
            else b""
        )
        return Exit(
            code=int(state["ExitCode"]),
            out_of_memory=bool(state["OOMKilled"]),
            limit=int(details["HostConfig"]["Memory"]),
            error=str(state["Error"]),
            tail=tail.decode(errors="replace"),
        )


def _api(client: docker.DockerClient) -> Any:
    return client.api  # its stubs leave most of its methods untyped


def _is_still(client: docker.DockerClient, instance: Instance) -> bool:
    """Whether a container still serves the instance's run: a standby may serve another by now."""
    details = _api(client).inspect_container(instance.id)
    return run_of(details["Config"]["Labels"], [details["Name"]]) == instance.run


def _connect(timeout: int | None) -> docker.DockerClient:
    try:
        # None for a stream of events: there may be none for any length of time.
        client = docker.from_env(timeout=timeout)  # pyright: ignore[reportArgumentType]
        client.ping()
        return client
    except (DockerException, requests.RequestException) as error:
        raise EngineUnavailable(f"no Docker engine answers: {error}") from error


def _time(text: str) -> datetime | None:
    """Parse an engine's time, without its nanoseconds; None for the year 1, its zero value."""
    moment = datetime.fromisoformat(f"{text[:19]}+00:00")
    return moment if moment.year > 1 else None
