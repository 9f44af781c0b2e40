"""Containers that run until a given time: started together, and restarted where one exits early."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import docker

from tasks.containers import user_container
from tasks.containers.kills import signal_from_outside
from tasks.containers.logs import Log
from tasks.containers.output import clear
from tasks.containers.prepared import Prepared
from tasks.containers.rules import Limits, stopped_by
from tasks.containers.running import GRACE, check_disk, check_volumes
from tasks.containers.user_container import ContainerSpec, Owner
from tasks.errors import ContainerFailed, ContainerLost
from tasks.generation.lines import Counts, Lines
from tasks.generation.topics.topic import Topic

T = TypeVar("T")
RESTARTS = 5
"""Restarts of a container before it is given up."""
_BACKOFF = 1.0  # seconds before the first restart; doubled for each later one
_PREPARE = 5.0  # seconds before the start at which containers are created
_LOG = 16 * 2**20  # bytes kept of each log
_CANCELLED_GRACE = 2  # seconds
_VOLUMES = 2**30  # maximum bytes in the filled volumes of each container
_CLOCKS = 5.0  # seconds by which the engine's clock may be behind this one
_LOOK = 0.5  # seconds between two measurements of the volumes


@dataclass
class ContainerGroup:
    """Runs the containers of one job, and restarts those that exit early."""

    client: docker.DockerClient
    owner: Owner
    spec: ContainerSpec
    topic: Topic
    logs: Path
    start: datetime
    until: datetime
    show: Callable[[str], None]
    networks: Sequence[str]
    """The network mode of each container."""
    counts: list[Counts] = field(default_factory=list[Counts])
    up: int = 0
    """How many of them run now."""
    last_lines: tuple[str, ...] = ()
    """Last lines of stderr of the container that failed last."""
    last_reason: str = ""
    """The limit that it probably met; empty where none is known."""
    scratch: Path | None = None
    """A folder for copies of the filled volumes."""

    @property
    def number(self) -> int:
        """How many containers."""
        return len(self.networks)

    async def run(self) -> None:
        """Run the containers until `until`.

        Raises TopicUnavailable, InvalidPayload where one cannot be started, ContainerFailed where
        a volume is too large, DiskNearlyFull, EngineUnavailable.
        """
        self.counts = [Counts() for _ in range(self.number)]
        # Each needs a thread to wait for its exit, one to read, and for a moment one to stop it.
        self._threads = ThreadPoolExecutor(3 * self.number, thread_name_prefix="generator")
        tasks = [asyncio.create_task(self._run_until_end(n)) for n in range(self.number)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._threads.shutdown(wait=False)

    async def _thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    async def _run_until_end(self, n: int) -> None:
        counts = self.counts[n]
        with ExitStack() as logs:
            aside = logs.enter_context(Log(self.logs / f"container-{n + 1}.aside.log", _LOG))
            err = logs.enter_context(Log(self.logs / f"container-{n + 1}.stderr.log", _LOG))
            await _sleep_until(self.start, _PREPARE)
            while datetime.now(UTC) < self.until:
                lines = Lines(n + 1, self.topic, counts, aside, err)
                code = await self._once(n, lines)
                if code == 0:
                    return
                if counts.restarts == RESTARTS:
                    counts.given_up = True
                    self.show(
                        f"container {n + 1} exited with {code} after {RESTARTS} restarts: given up"
                    )
                    return
                wait = _BACKOFF * 2**counts.restarts
                if wait >= (self.until - datetime.now(UTC)).total_seconds():
                    self.show(f"container {n + 1} exited with {code}: no time left for a restart")
                    return
                self.show(f"container {n + 1} exited with {code}: restarted in {wait:.0f} s")
                await asyncio.sleep(wait)
                if datetime.now(UTC) >= self.until:
                    return
                counts.restarts += 1

    async def _once(self, n: int, lines: Lines) -> int:
        """Run a container once. Returns its exit code where it exited early; 0 at the end time."""
        name = f"prefecture-{self.owner.run}-{n + 1}-{self.counts[n].restarts}"
        volumes, spec = await self._own_volumes(name, replace(self.spec, network=self.networks[n]))
        id = await self._thread(user_container.create, self.client, self.owner, spec, name, n + 1)
        reading: asyncio.Future[None] | None = None
        watching = asyncio.create_task(self._watch(spec))
        try:
            printed = await self._thread(user_container.attach, self.client, id)
            reading = asyncio.ensure_future(self._thread(lines.take_all, printed))
            await _sleep_until(self.start)
            await self._thread(user_container.start, self.client, id)
            self.up += 1
            try:
                return await self._wait_for_exit(id, reading, watching, lines)
            finally:
                self.up -= 1
        except asyncio.CancelledError:
            self.topic.hurry()  # otherwise the reading thread may wait for the topic
            await asyncio.to_thread(user_container.stop, self.client, id, _CANCELLED_GRACE)
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await asyncio.to_thread(user_container.remove, self.client, id)
            if reading is not None:  # it ends with the container; the logs are closed after it
                await asyncio.wait({reading}, timeout=GRACE)
            if volumes is not None:
                await asyncio.to_thread(clear, volumes)

    async def _own_volumes(
        self, name: str, spec: ContainerSpec
    ) -> tuple[Path | None, ContainerSpec]:
        """Copy the filled volumes for one container. Returns their folder and its spec."""
        if self.scratch is None or not spec.prepared.filled:
            return None, spec
        volumes = self.scratch / name
        prepared: Prepared = await self._thread(spec.prepared.copied, volumes)
        return volumes, replace(spec, prepared=prepared)

    async def _watch(self, spec: ContainerSpec) -> None:
        """Raise ContainerFailed or DiskNearlyFull once a container has written too much."""
        places = list(spec.prepared.filled.values())
        while places:
            check_disk(places[0])
            if fault := await check_volumes(spec, _VOLUMES):
                raise ContainerFailed(fault)
            await asyncio.sleep(_LOOK)
        await asyncio.Event().wait()

    async def _wait_for_exit(
        self,
        id: str,
        reading: "asyncio.Future[None]",
        watching: "asyncio.Task[None]",
        lines: Lines,
    ) -> int:
        began = time.time() - _CLOCKS
        waiting = asyncio.ensure_future(self._thread(user_container.wait, self.client, id))
        open_: set[asyncio.Future[Any]] = {waiting, reading, watching}
        over = False
        while not waiting.done() and not over:
            left = (self.until - datetime.now(UTC)).total_seconds()
            done, open_ = await asyncio.wait(
                open_, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED
            )
            over = not done
            if reading in done:
                reading.result()  # raises errors of the topic or the disk
            if watching in done:
                watching.result()
        if over:
            await self._thread(user_container.stop, self.client, id, GRACE)
        try:
            ended = await waiting
        except ContainerLost:  # restarted, like one that exits early
            return 0 if over else 128 + signal.SIGKILL
        await reading
        if not over and not ended.code:
            # Exit code 0 after a SIGTERM from outside: its work is not done.
            sent = await self._thread(signal_from_outside, self.client, id, began, ended.code)
            return 128 + signal.Signals[sent] if sent else 0
        if ended.code and not over:
            self.last_lines = tuple(lines.err_view.last)
            limits = Limits(self.spec.network)
            self.last_reason = (
                "out of memory: raise `memory` in the payload"
                if ended.out_of_memory
                else stopped_by(ended.code, lines.err_view.recent, limits)
            )
        return 0 if over else ended.code


async def _sleep_until(moment: datetime, early: float = 0.0) -> None:
    left = (moment - datetime.now(UTC)).total_seconds() - early
    await asyncio.sleep(max(0.0, left))
