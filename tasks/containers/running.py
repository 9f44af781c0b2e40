"""A container from its start to its end: read, watched, ended on time, always removed."""

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from tasks.containers import user_container
from tasks.containers.kills import host_memory_kills, signal_from_outside
from tasks.containers.logs import Live, Log
from tasks.containers.output import measure
from tasks.containers.usage import Usage
from tasks.containers.user_container import ContainerSpec, End, Owner, Printed
from tasks.errors import ContainerLost, DiskNearlyFull, EngineUnavailable
from tasks.settings import get_settings

GRACE = 10
"""Seconds between SIGTERM and SIGKILL for a container that is over its time."""
_CANCELLED_GRACE = 3  # seconds: less than a cancelled flow has itself
_LOOK = 0.1  # seconds between two looks into /output, or as long as one takes
_START = 5.0  # seconds by which the engine's clock may be behind this one's at the start
_LAST_WORDS = 10.0  # seconds in which what it printed is read, once it has ended


@dataclass(frozen=True)
class Bounds:
    """What ends a container that would go on."""

    seconds: float
    output: int
    """Bytes in /output, and as many in all volumes that the image has filled."""
    log: int
    """Bytes of each log that are kept from its beginning."""


@dataclass(frozen=True)
class ContainerOutcome:
    """How a container ran."""

    code: int
    out_of_memory: bool
    over_time: bool
    fault: str
    """What it did that nothing may do, for which it was ended; empty for nothing."""
    seconds: float
    peak_memory: int
    cpu_seconds: float
    logs_cut: bool
    last_lines: tuple[str, ...]
    """Of its standard error, or of its standard output where it says nothing on the other."""
    recent_lines: tuple[str, ...]
    """More of both."""


async def run(
    client: docker.DockerClient,
    owner: Owner,
    spec: ContainerSpec,
    logs: Path,
    bounds: Bounds,
    show: Callable[[str], None],
) -> ContainerOutcome:
    """Run a container to its end, its output to stdout.log and stderr.log in `logs`.

    `show` is told, from another thread, the lines that it prints. Raises InvalidPayload where it
    cannot be started, ContainerLost where somebody else ends it, DiskNearlyFull, EngineUnavailable.
    """
    id = await asyncio.to_thread(
        user_container.create, client, owner, spec, f"prefecture-{owner.run}"
    )
    try:
        with (
            Log(logs / "stdout.log", bounds.log) as out,
            Log(logs / "stderr.log", bounds.log) as err,
        ):
            return await _run(client, id, spec, bounds, _Streams(out, err, Live(show), Live(show)))
    finally:
        await asyncio.to_thread(user_container.remove, client, id)


@dataclass(frozen=True)
class _Streams:
    """Where what a container prints goes."""

    out: Log
    err: Log
    live_out: Live
    live_err: Live

    def take_all(self, printed: Printed) -> None:
        """Take it to its end. Raises OSError where the disk has no room for it."""
        streams = (self.out, self.live_out), (self.err, self.live_err)
        with closing(printed):
            for pieces in printed:
                for data, (log, live) in zip(pieces, streams, strict=True):
                    if data:
                        log.write(data)
                        live.write(data)
        self.live_out.close()
        self.live_err.close()


async def _run(
    client: docker.DockerClient, id: str, spec: ContainerSpec, bounds: Bounds, streams: _Streams
) -> ContainerOutcome:
    printed = await asyncio.to_thread(user_container.attach, client, id)
    reading = asyncio.create_task(asyncio.to_thread(streams.take_all, printed))
    try:
        began = time.monotonic()
        await asyncio.to_thread(user_container.start, client, id)
        usage = Usage(client, id)
        ended, over_time, fault = await _to_its_end(client, id, spec, bounds, reading)
        seconds = time.monotonic() - began
        await _read_to_the_end(reading)
    except BaseException:
        # It ends what is read, and that must be before the logs are closed.
        await asyncio.to_thread(user_container.stop, client, id, _CANCELLED_GRACE)
        await asyncio.to_thread(user_container.remove, client, id)
        await asyncio.wait({reading}, timeout=_LAST_WORDS)
        raise
    return ContainerOutcome(
        code=ended.code,
        out_of_memory=ended.out_of_memory,
        over_time=over_time,
        fault=fault or await _check(spec, bounds.output),
        seconds=seconds,
        peak_memory=usage.peak_memory,
        cpu_seconds=usage.cpu_seconds,
        logs_cut=streams.out.is_cut or streams.err.is_cut,
        last_lines=tuple(streams.live_err.last or streams.live_out.last),
        recent_lines=(*streams.live_out.recent, *streams.live_err.recent),
    )


async def _to_its_end(
    client: docker.DockerClient,
    id: str,
    spec: ContainerSpec,
    bounds: Bounds,
    reading: asyncio.Task[None],
) -> tuple[End, bool, str]:
    """How it ended, whether its time was over, and what it did for which it was ended."""
    began, kills = time.time() - _START, host_memory_kills()
    waiting = asyncio.create_task(asyncio.to_thread(user_container.wait, client, id))
    watching = asyncio.create_task(_watch(spec, bounds.output))
    open_: set[asyncio.Task[Any]] = {waiting, watching, reading}
    over_time = False
    end = asyncio.get_running_loop().time() + bounds.seconds
    try:
        while not waiting.done() and not watching.done():
            left = end - asyncio.get_running_loop().time()
            done, open_ = await asyncio.wait(
                open_, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            over_time = not done
            if over_time or (reading in done and reading.exception()):
                break
        if waiting.done():
            ended = waiting.result()
            await _refuse_end_from_outside(client, id, ended, began, kills)
        else:
            await asyncio.to_thread(user_container.stop, client, id, GRACE if over_time else 0)
            ended = await waiting
        return ended, over_time, watching.result() if watching.done() else ""
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _refuse_end_from_outside(
    client: docker.DockerClient, id: str, ended: End, began: float, kills: int
) -> None:
    """An end that is not the container's own is no result and no failure of the job's."""
    if ended.out_of_memory:
        return
    sent = await asyncio.to_thread(signal_from_outside, client, id, began, ended.code)
    if sent:
        raise ContainerLost(
            f"the container was ended by {sent} from outside, as by docker kill or docker stop"
        )
    if ended.code == 128 + signal.SIGKILL and host_memory_kills() > kills:
        raise ContainerLost(
            "the container was killed while its host was out of memory, its own limit was not met"
        )


async def _read_to_the_end(reading: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait_for(reading, _LAST_WORDS)
    except TimeoutError as error:
        raise EngineUnavailable("the end of a container's output does not come") from error


async def _watch(spec: ContainerSpec, most: int) -> str:
    """What is wrong with what it writes, as soon as something is. Raises DiskNearlyFull."""
    while True:
        began = time.monotonic()
        if fault := await _check(spec, most):
            return fault
        if spec.output is not None:
            check_disk(spec.output)
        await asyncio.sleep(max(_LOOK, time.monotonic() - began))


async def _check(spec: ContainerSpec, most: int) -> str:
    """What is wrong with what it has written; empty for nothing."""
    if spec.output is None:
        return ""
    size = await asyncio.to_thread(measure, spec.output)
    if size.fault:
        return size.fault
    if size.bytes > most:
        return (
            f"/output is larger than its limit of {most / 2**20:,.0f} MiB: raise `output` in the "
            "payload, or write less"
        )
    return await check_volumes(spec, most)


async def check_volumes(spec: ContainerSpec, most: int) -> str:
    """What is wrong with the volumes that the image has filled; empty for nothing."""
    places = spec.prepared.filled.values()
    apart = [one for one in places if spec.output is None or not one.is_relative_to(spec.output)]
    whole = [one for one in apart if not any(one != p and one.is_relative_to(p) for p in apart)]
    sizes = [await asyncio.to_thread(measure, place) for place in whole]
    if fault := next((size.fault for size in sizes if size.fault), ""):
        return fault.replace("/output", "a volume of the image")
    if sum(size.bytes for size in sizes) > most:
        return (
            f"the volumes {', '.join(spec.prepared.filled)} are larger than the "
            f"{most / 2**20:,.0f} MiB that they may have together: write less there"
        )
    return ""


def check_disk(folder: Path) -> None:
    """Raise DiskNearlyFull where less is free than must be: nobody but the host can change that."""
    least = get_settings().min_free_disk
    free = shutil.disk_usage(folder).free
    if free < least:
        raise DiskNearlyFull(
            f"the disk that /output is on has {free / 2**20:,.0f} MiB free, and must have "
            f"{least / 2**20:,.0f} (PREFECTURE_MIN_FREE_DISK): free space on the host"
        )
