"""A container from its start to its end: read, watched, ended on time, always removed."""

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from tasks.containers import user_container
from tasks.containers.logs import Live, Log
from tasks.containers.output import measure
from tasks.containers.usage import Usage
from tasks.containers.user_container import ContainerSpec, End, Owner, Printed
from tasks.errors import EngineUnavailable

GRACE = 10
"""Seconds between SIGTERM and SIGKILL for a container that is over its time."""
_CANCELLED_GRACE = 3  # seconds: less than a cancelled flow has itself
_LOOK = 0.1  # seconds between two looks into /output, or as long as one takes
_LEAST_FREE = 256 * 2**20  # bytes of the disk that /output is on
_LAST_WORDS = 10.0  # seconds in which what it printed is read, once it has ended


@dataclass(frozen=True)
class Bounds:
    """What ends a container that would go on."""

    seconds: float
    output: int
    """Bytes."""
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
    cannot be started, EngineUnavailable.
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
        fault=fault or await _check(spec.output, bounds.output),
        seconds=seconds,
        peak_memory=usage.peak_memory,
        cpu_seconds=usage.cpu_seconds,
        logs_cut=streams.out.is_cut or streams.err.is_cut,
        last_lines=tuple(streams.live_err.last or streams.live_out.last),
    )


async def _to_its_end(
    client: docker.DockerClient,
    id: str,
    spec: ContainerSpec,
    bounds: Bounds,
    reading: asyncio.Task[None],
) -> tuple[End, bool, str]:
    """How it ended, whether its time was over, and what it did for which it was ended."""
    waiting = asyncio.create_task(asyncio.to_thread(user_container.wait, client, id))
    watching = asyncio.create_task(_watch(spec.output, bounds.output))
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
        if not waiting.done():
            await asyncio.to_thread(user_container.stop, client, id, GRACE if over_time else 0)
        ended = await waiting
        return ended, over_time, watching.result() if watching.done() else ""
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _read_to_the_end(reading: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait_for(reading, _LAST_WORDS)
    except TimeoutError as error:
        raise EngineUnavailable("the end of a container's output does not come") from error


async def _watch(output: Path | None, most: int) -> str:
    """What is wrong with /output, as soon as something is."""
    while True:
        began = time.monotonic()
        if fault := await _check(output, most):
            return fault
        await asyncio.sleep(max(_LOOK, time.monotonic() - began))


async def _check(output: Path | None, most: int) -> str:
    if output is None:
        return ""
    size = await asyncio.to_thread(measure, output)
    if size.fault:
        return size.fault
    if size.bytes > most:
        return (
            f"/output is larger than its limit of {most / 2**20:,.0f} MiB: raise `output` in the "
            "payload, or write less"
        )
    if shutil.disk_usage(output).free < _LEAST_FREE:
        return "the disk that /output is on is nearly full: free space on the host"
    return ""
