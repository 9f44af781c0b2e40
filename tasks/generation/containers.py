"""Containers that run until a moment: started together, started again where one dies early."""

import asyncio
import signal
import time
from collections.abc import Callable
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
"""How often a container is started again before it is given up."""
_BACKOFF = 1.0  # seconds before the first of these; twice as long before each later one
_AHEAD = 5.0  # seconds before the start in which a container is made ready
_LOG = 16 * 2**20  # bytes of what is kept of each container
_CANCELLED_GRACE = 2  # seconds
_VOLUMES = 2**30  # bytes in the volumes that the image has filled, of each container
_CLOCKS = 5.0  # seconds by which the engine's clock may be behind this one's
_LOOK = 0.5  # seconds between two looks at them


@dataclass
class Keeper:
    """Keeps the containers of one job running."""

    client: docker.DockerClient
    owner: Owner
    spec: ContainerSpec
    topic: Topic
    logs: Path
    start: datetime
    until: datetime
    show: Callable[[str], None]
    number: int
    """How many containers."""
    counts: list[Counts] = field(default_factory=list[Counts])
    up: int = 0
    """How many of them run now."""
    last_lines: tuple[str, ...] = ()
    """Of the standard error of one that was given up."""
    last_reason: str = ""
    """The rule that it has probably met; empty where none is known."""
    scratch: Path | None = None
    """A folder for copies of what the image has filled of its volumes."""

    async def keep(self) -> None:
        """Run them to the end.

        Raises TopicUnavailable, InvalidPayload, ContainerFailed where a volume is too large,
        EngineUnavailable.
        """
        self.counts = [Counts() for _ in range(self.number)]
        # Each holds a thread that waits, one that reads, and for a moment one that ends it.
        self._threads = ThreadPoolExecutor(3 * self.number, thread_name_prefix="generator")
        tasks = [asyncio.create_task(self._keep(n)) for n in range(self.number)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._threads.shutdown(wait=False)

    async def _thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    async def _keep(self, n: int) -> None:
        counts = self.counts[n]
        with ExitStack() as logs:
            aside = logs.enter_context(Log(self.logs / f"container-{n + 1}.aside.log", _LOG))
            err = logs.enter_context(Log(self.logs / f"container-{n + 1}.stderr.log", _LOG))
            await _sleep_until(self.start, _AHEAD)
            while datetime.now(UTC) < self.until:
                lines = Lines(n + 1, self.topic, counts, aside, err)
                code = await self._once(n, lines)
                if code == 0:
                    return
                if counts.restarts == RESTARTS:
                    counts.given_up = True
                    self.show(f"container {n + 1} ended with {code} again, and is given up")
                    return
                wait = _BACKOFF * 2**counts.restarts
                if wait >= (self.until - datetime.now(UTC)).total_seconds():
                    self.show(f"container {n + 1} ended with {code}: no time is left for another")
                    return
                self.show(f"container {n + 1} ended with {code}: started again in {wait:.0f} s")
                await asyncio.sleep(wait)
                if datetime.now(UTC) >= self.until:
                    return
                counts.restarts += 1

    async def _once(self, n: int, lines: Lines) -> int:
        """Run a container once. Returns its exit code where it ended early, 0 where on time."""
        name = f"prefecture-{self.owner.run}-{n + 1}-{self.counts[n].restarts}"
        volumes, spec = await self._own_volumes(name)
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
                return await self._to_its_end(id, reading, watching, lines)
            finally:
                self.up -= 1
        except asyncio.CancelledError:
            self.topic.hurry()  # or what is read would wait for it
            await asyncio.to_thread(user_container.stop, self.client, id, _CANCELLED_GRACE)
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await asyncio.to_thread(user_container.remove, self.client, id)
            if reading is not None:  # which ends with it; and before its logs are closed
                await asyncio.wait({reading}, timeout=GRACE)
            if volumes is not None:
                await asyncio.to_thread(clear, volumes)

    async def _own_volumes(self, name: str) -> tuple[Path | None, ContainerSpec]:
        """Each container begins with what the image has in its volumes."""
        if self.scratch is None or not self.spec.prepared.filled:
            return None, self.spec
        volumes = self.scratch / name
        prepared: Prepared = await self._thread(self.spec.prepared.copied, volumes)
        return volumes, replace(self.spec, prepared=prepared)

    async def _watch(self, spec: ContainerSpec) -> None:
        """Raise ContainerFailed or DiskNearlyFull once a container has written too much."""
        places = list(spec.prepared.filled.values())
        while places:
            check_disk(places[0])
            if fault := await check_volumes(spec, _VOLUMES):
                raise ContainerFailed(fault)
            await asyncio.sleep(_LOOK)
        await asyncio.Event().wait()

    async def _to_its_end(
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
                reading.result()  # raises what the topic, or the disk, says
            if watching in done:
                watching.result()
        if over:
            await self._thread(user_container.stop, self.client, id, GRACE)
        try:
            ended = await waiting
        except ContainerLost:  # it is started again, as one that dies is
            return 0 if over else 128 + signal.SIGKILL
        await reading
        if not over and not ended.code:
            # One that ends well on a SIGTERM of somebody else's has not done all of its work.
            sent = await self._thread(signal_from_outside, self.client, id, began, ended.code)
            return 128 + signal.Signals[sent] if sent else 0
        if ended.code and not over:
            self.last_lines = tuple(lines.live.last)
            limits = Limits(self.spec.network)
            self.last_reason = (
                "out of memory: raise `memory` in the payload"
                if ended.out_of_memory
                else stopped_by(ended.code, lines.live.recent, limits)
            )
        return 0 if over else ended.code


async def _sleep_until(moment: datetime, ahead: float = 0.0) -> None:
    left = (moment - datetime.now(UTC)).total_seconds() - ahead
    await asyncio.sleep(max(0.0, left))
