"""The ways out of a closed network: a job connects to a listed host by its name and port.

In a container of such a network the names of these hosts are addresses of its own loopback. There a
process beside the job's listens, and passes connections on to the relay of the worker. So any port
can be listed, of any host, also of the loopback of the machine that the container is on.
"""

import asyncio
import contextlib
import os
import socket
import sys
from functools import partial

from tasks.settings import reached_hosts
from work_pools.entrypoint.relaying import PIECE, pass_on

_RELAY = "host.docker.internal"  # by which the worker's machine is known in a container


def open_ways_out() -> None:
    """Listen for the hosts that this job reaches, in a fork of this process; without any, do
    nothing. This process must have one thread so far."""
    ways: list[tuple[socket.socket, int]] = []
    for given in reached_hosts() or []:
        host, _, relayed = given.partition("=")
        name, _, port = host.rpartition(":")
        try:
            ways.append((socket.create_server((_own_address(name), int(port))), int(relayed)))
        except OSError as error:
            print(f"this job does not reach {host}: {error}", file=sys.stderr)
    if not ways:
        return
    if not os.fork():
        try:
            asyncio.run(_serve(ways))
        finally:
            os._exit(1)
    for listener, _ in ways:
        listener.close()


async def _serve(ways: list[tuple[socket.socket, int]]) -> None:
    for listener, port in ways:
        await asyncio.start_server(partial(_handle, port), sock=listener, limit=PIECE, backlog=512)
    await asyncio.Event().wait()


async def _handle(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError, TimeoutError):
            await pass_on(reader, writer, (_RELAY, port))
    finally:
        writer.close()


def _own_address(name: str) -> str:
    """The address of this container that a host's name stands for."""
    return socket.gethostbyname(name)
