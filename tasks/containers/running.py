"""A container from its start to its end: read, watched, ended on time, always removed."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import docker

from tasks.containers import sibling
from tasks.containers.engine import api, asking
from tasks.containers.logs import Live, Log
from tasks.containers.output import measure
from tasks.containers.sibling import Owner, Wish
from tasks.containers.usage import Usage

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
class Ran:
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
    wish: Wish,
    logs: Path,
    bounds: Bounds,
    show: Callable[[str], None],
) -> Ran:
    """Run a container to its end, its output to stdout.log and stderr.log in `logs`.

    `show` is told, from another thread, the lines that it prints. Raises InvalidPayload where it
    cannot be started, EngineUnavailable.
    """
    id = await asyncio.to_thread(sibling.create, client, owner, wish, f"prefecture-{owner.run}")
    try:
        return await _run(client, id, wish, logs, bounds, show)
    except asyncio.CancelledError:
        await asyncio.to_thread(sibling.stop, client, id, _CANCELLED_GRACE)
        raise
    finally:
        await asyncio.to_thread(sibling.remove, client, id)


async def _run(
    client: docker.DockerClient,
    id: str,
    wish: Wish,
    logs: Path,
    bounds: Bounds,
    show: Callable[[str], None],
) -> Ran:
    live_out, live_err = Live(show), Live(show)
    with (
        Log(logs / "stdout.log", bounds.log) as out,
        Log(logs / "stderr.log", bounds.log) as err,
    ):
        with asking("its output cannot be read"):
            stream = await asyncio.to_thread(_attach, client, id)

        def read() -> None:
            for printed, complained in stream:
                for data, log, live in ((printed, out, live_out), (complained, err, live_err)):
                    if data:
                        log.write(data)
                        live.write(data)
            live_out.close()
            live_err.close()

        reading = asyncio.create_task(asyncio.to_thread(read))
        began = time.monotonic()
        await asyncio.to_thread(sibling.start, client, id)
        usage = Usage(client, id)
        waiting = asyncio.create_task(asyncio.to_thread(sibling.wait, client, id))
        watching = asyncio.create_task(_watch(wish.output, bounds.output))
        # What it prints may be too much for the disk.
        tasks = {waiting, watching, reading}
        try:
            end = asyncio.get_running_loop().time() + bounds.seconds
            while not waiting.done() and not watching.done():
                left = end - asyncio.get_running_loop().time()
                done, tasks = await asyncio.wait(
                    tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                if reading in done and reading.exception():
                    break
            over_time = not waiting.done() and not watching.done() and not reading.done()
            if not waiting.done():
                grace = GRACE if over_time else 0
                await asyncio.to_thread(sibling.stop, client, id, grace)
            ended = await waiting
            seconds = time.monotonic() - began
            await asyncio.wait_for(reading, _LAST_WORDS)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    fault = "" if watching.cancelled() else watching.result()
    return Ran(
        code=ended.code,
        out_of_memory=ended.out_of_memory,
        over_time=over_time,
        fault=fault or await _check(wish.output, bounds.output),
        seconds=seconds,
        peak_memory=usage.peak_memory,
        cpu_seconds=usage.cpu_seconds,
        logs_cut=out.is_cut or err.is_cut,
        last_lines=tuple(live_err.last or live_out.last),
    )


def _attach(client: docker.DockerClient, id: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    attach = partial(api(client).attach, id, stdout=True, stderr=True, stream=True, demux=True)
    return attach()


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
