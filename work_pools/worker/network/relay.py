"""Program that passes connections of jobs' containers on, to the API and to hosts of a setting.

    python -m work_pools.worker.network.relay ADDRESS PORT WORKER API [HOST:PORT=OWN ...]

ADDRESS is that of this host in the network of jobs, with the length of the network's prefix, such
as 172.18.0.1/16: only connections from that network are taken. PORT is where it listens for the
API, if that is free; it prints the port that it has. WORKER is a process: once that has ended, this
program goes on while jobs that it has started use it, and ends after six hours without a
connection. API is a host and a port too. For each further host it listens at the port OWN. Lines of
its standard input name more of them.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface

from work_pools.entrypoint.relaying import PIECE, pass_on

_IDLE = 6 * 3600.0  # seconds without a connection, once the worker has ended
_LOOK = 5.0  # seconds between two looks at the worker


class Relay:
    """Passes connections on, and counts them. `here`: this host's address in the network whose
    connections it takes: others could be routed to it."""

    def __init__(self, here: IPv4Interface) -> None:
        self._here = here
        self._open = 0
        self._used = time.monotonic()
        self._servers: list[asyncio.Server] = []

    @property
    def idle(self) -> float:
        """Seconds for which no connection has been open."""
        return 0 if self._open else time.monotonic() - self._used

    async def serve(self, port: int, to: tuple[str, int]) -> int:
        """Listen at a port (0: any), for the host `to`. Returns the port.

        Raises OSError where it cannot listen there.
        """

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = writer.get_extra_info("peername")
            if peer is None or IPv4Address(peer[0]) not in self._here.network:
                writer.close()
                return
            self._open += 1
            try:
                with contextlib.suppress(OSError, TimeoutError):
                    await pass_on(reader, writer, to)
            finally:
                writer.close()
                self._open -= 1
                self._used = time.monotonic()

        at = str(self._here.ip)
        server = await asyncio.start_server(handle, at, port, limit=PIECE, backlog=512)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()


def _split(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    return host.strip("[]"), int(port)


async def relay(address: str, port: int, worker: int, api: str, hosts: Sequence[str]) -> None:
    """Relay until the worker has ended and nothing is connected. Prints the port for the API."""
    one = Relay(IPv4Interface(address))

    async def reach(given: str) -> None:
        host, _, own = given.partition("=")
        try:
            await one.serve(int(own), _split(host))
        except OSError as error:
            print(f"the relay cannot listen for {host}: {error}", file=sys.stderr, flush=True)

    for given in hosts:
        await reach(given)
    try:
        own = await one.serve(port, _split(api))
    except OSError:
        own = await one.serve(0, _split(api))
    print(own, flush=True)
    more = asyncio.create_task(_read_hosts(reach))
    while os.getppid() == worker or one.idle < _IDLE:  # noqa: ASYNC110  # no event says it
        await asyncio.sleep(_LOOK)
    more.cancel()


async def _read_hosts(reach: Callable[[str], Awaitable[None]]) -> None:
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await lines.readline():
        await reach(line.decode().strip())


def main() -> None:
    """Read the arguments, and relay."""
    address, port, worker, api, *hosts = sys.argv[1:]
    try:
        asyncio.run(relay(address, int(port), int(worker), api, hosts))
    except OSError as error:
        sys.exit(f"the relay of the network of jobs cannot listen at {address}: {error}")


if __name__ == "__main__":
    main()
