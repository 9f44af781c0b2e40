"""Running of a container: read its output, watch its limits, stop it in time, always remove it."""

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
from tasks.containers.logs import LineView, Log
from tasks.containers.output import measure
from tasks.containers.usage import Usage
from tasks.containers.user_container import ContainerExit, ContainerSpec, Owner, Printed
from tasks.errors import ContainerLost, DiskNearlyFull, EngineUnavailable
from tasks.settings import get_settings

GRACE = 10
"""Seconds between SIGTERM and SIGKILL for a container that is over its time limit."""
_CANCELLED_GRACE = 3  # seconds: less than a cancelled flow itself has
_LOOK = 0.1  # seconds between two measurements of /output, or as long as one takes
_CLOCKS = 5.0  # seconds by which the engine's clock may be behind this one
_DRAIN = 10.0  # seconds in which the rest of its output is read after its exit


@dataclass(frozen=True)
class Bounds:
    """Limits at which a container is stopped."""

    seconds: float
    output: int
    """Bytes in /output, and as many in all filled volumes together."""
    log: int
    """Bytes that are kept from the beginning of each log; no reason to stop."""


@dataclass(frozen=True)
class ContainerOutcome:
    """Exit code, resource use and last lines of a container."""

    code: int
    out_of_memory: bool
    over_time: bool
    fault: str
    """The violated limit for which it was stopped; empty for none."""
    seconds: float
    peak_memory: int
    """Bytes."""
    cpu_seconds: float
    logs_cut: bool
    last_lines: tuple[str, ...]
    """The last 3 lines of stderr, or of stdout where stderr is empty."""
    recent_lines: tuple[str, ...]
    """The last 50 lines of each."""


async def run(
    client: docker.DockerClient,
    owner: Owner,
    spec: ContainerSpec,
    logs: Path,
    bounds: Bounds,
    show: Callable[[str], None],
) -> ContainerOutcome:
    """Run a container to its end, with its output in stdout.log and stderr.log in `logs`.

    `show` is called with its lines, from another thread. Raises InvalidPayload where it cannot be
    started, ContainerLost where it is killed or removed from outside, DiskNearlyFull,
    EngineUnavailable.
    """
    id = await asyncio.to_thread(
        user_container.create, client, owner, spec, f"prefecture-{owner.run}"
    )
    try:
        with (
            Log(logs / "stdout.log", bounds.log) as out,
            Log(logs / "stderr.log", bounds.log) as err,
        ):
            return await _run(
                client, id, spec, bounds, _Streams(out, err, LineView(show), LineView(show))
            )
    finally:
        await asyncio.to_thread(user_container.remove, client, id)


@dataclass(frozen=True)
class _Streams:
    """Receivers of a container's output."""

    out: Log
    err: Log
    out_view: LineView
    err_view: LineView

    def take_all(self, printed: Printed) -> None:
        """Read the output to its end. Raises OSError where the disk is full."""
        streams = (self.out, self.out_view), (self.err, self.err_view)
        with closing(printed):
            for pieces in printed:
                for data, (log, view) in zip(pieces, streams, strict=True):
                    if data:
                        log.write(data)
                        view.write(data)
        self.out_view.close()
        self.err_view.close()


async def _run(
    client: docker.DockerClient, id: str, spec: ContainerSpec, bounds: Bounds, streams: _Streams
) -> ContainerOutcome:
    printed = await asyncio.to_thread(user_container.attach, client, id)
    reading = asyncio.create_task(asyncio.to_thread(streams.take_all, printed))
    try:
        began = time.monotonic()
        await asyncio.to_thread(user_container.start, client, id)
        usage = Usage(client, id)
        ended, over_time, fault = await _wait_for_exit(client, id, spec, bounds, reading)
        seconds = time.monotonic() - began
        await _read_rest(reading)
    except BaseException:
        # This ends the output, which must be read before the logs are closed.
        await asyncio.to_thread(user_container.stop, client, id, _CANCELLED_GRACE)
        await asyncio.to_thread(user_container.remove, client, id)
        await asyncio.wait({reading}, timeout=_DRAIN)
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
        last_lines=tuple(streams.err_view.last or streams.out_view.last),
        recent_lines=(*streams.out_view.recent, *streams.err_view.recent),
    )


async def _wait_for_exit(
    client: docker.DockerClient,
    id: str,
    spec: ContainerSpec,
    bounds: Bounds,
    reading: asyncio.Task[None],
) -> tuple[ContainerExit, bool, str]:
    """Wait for its exit, or stop it. Returns the exit, whether it was over its time, its fault."""
    began, kills = time.time() - _CLOCKS, host_memory_kills()
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
            await _check_killed_from_outside(client, id, ended, began, kills)
        else:
            await asyncio.to_thread(user_container.stop, client, id, GRACE if over_time else 0)
            ended = await waiting
        return ended, over_time, watching.result() if watching.done() else ""
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _check_killed_from_outside(
    client: docker.DockerClient, id: str, ended: ContainerExit, began: float, kills: int
) -> None:
    """Raise ContainerLost where the container was killed from outside: then the job is retried."""
    if ended.out_of_memory:
        return
    sent = await asyncio.to_thread(signal_from_outside, client, id, began, ended.code)
    if sent:
        raise ContainerLost(
            f"the container was ended by {sent} from outside, as by docker kill or docker stop"
        )
    if ended.code == 128 + signal.SIGKILL and host_memory_kills() > kills:
        raise ContainerLost(
            "the container was killed because its host was out of memory, below its own limit"
        )


async def _read_rest(reading: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait_for(reading, _DRAIN)
    except TimeoutError as error:
        raise EngineUnavailable("the output of a container that has exited does not end") from error


async def _watch(spec: ContainerSpec, most: int) -> str:
    """Watch what it writes until a limit is violated; return that limit. Raises DiskNearlyFull."""
    while True:
        began = time.monotonic()
        if fault := await _check(spec, most):
            return fault
        if spec.output is not None:
            check_disk(spec.output)
        await asyncio.sleep(max(_LOOK, time.monotonic() - began))


async def _check(spec: ContainerSpec, most: int) -> str:
    """The violated limit of what it has written; empty for none."""
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
    """The violated limit of its filled volumes, of `most` bytes in all; empty for none."""
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
    """Raise DiskNearlyFull where the folder's disk has less than PREFECTURE_MIN_FREE_DISK free."""
    least = get_settings().min_free_disk
    free = shutil.disk_usage(folder).free
    if free < least:
        raise DiskNearlyFull(
            f"the disk that /output is on has {free / 2**20:,.0f} MiB free, and must have "
            f"{least / 2**20:,.0f} (PREFECTURE_MIN_FREE_DISK): free space on the host"
        )
