"""Program that passes connections of jobs' containers on, to the API and to hosts of a setting.

    python -m work_pools.worker.network.relay ADDRESS PORT WORKER API [HOST:PORT ...]

ADDRESS is that of this host in the network of jobs. PORT is where it listens for the API, if that
is free; it prints the port that it has. WORKER is a process: once that has ended, this program goes
on while jobs that it has started use it, and ends after six hours without a connection. API is a
host and a port too.

For each further host it listens at that host's own port, as the relays of other workers do. Hosts
with the same port are told apart by the name that a client of TLS sends first (RFC 6066, 3).
"""

import asyncio
import contextlib
import os
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Sequence

_PIECE = 2**16  # bytes
_HELLO = 2**14 + 5  # bytes of the largest first message of TLS
_PATIENCE = 30.0  # seconds for a client's first bytes, and to reach a host
_IDLE = 6 * 3600.0  # seconds without a connection, once the worker has ended
_LOOK = 5.0  # seconds between two looks at the worker


class Relay:
    """Passes connections on, and counts them."""

    def __init__(self) -> None:
        self._open = 0
        self._used = time.monotonic()
        self._servers: list[asyncio.Server] = []

    @property
    def idle(self) -> float:
        """Seconds for which no connection has been open."""
        return 0 if self._open else time.monotonic() - self._used

    async def serve(
        self, address: str, port: int, to: Sequence[tuple[str, int]], *, shared: bool = False
    ) -> int:
        """Listen at a port (0: any), for the hosts `to`. Returns the port.

        `shared`: other relays of this user may listen there too, and get some of the connections.
        Raises OSError where it cannot listen there.
        """

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._open += 1
            try:
                with contextlib.suppress(OSError, TimeoutError):
                    await _pass_on(reader, writer, to)
            finally:
                writer.close()
                self._open -= 1
                self._used = time.monotonic()

        server = await asyncio.start_server(
            handle, address, port, limit=_PIECE, backlog=512, reuse_port=shared
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Sequence[tuple[str, int]]
) -> None:
    first = b""
    if len(to) > 1:
        first = await asyncio.wait_for(_first_message(reader), _PATIENCE)
        name = server_name(first)
        to = [one for one in to if one[0] == name]
        if not to:
            return
    there = await asyncio.wait_for(asyncio.open_connection(*to[0], limit=_PIECE), _PATIENCE)
    try:
        there[1].write(first)
        # Where one side breaks the connection, its own copying ends it for both.
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
    finally:
        there[1].close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_PIECE):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _first_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    (length,) = struct.unpack_from(">H", head, 3)
    return head + await reader.readexactly(min(length, _HELLO))


def server_name(hello: bytes) -> str | None:
    """The name of the server in a client's first message of TLS; None where there is none."""
    with contextlib.suppress(struct.error, IndexError, UnicodeDecodeError):
        if hello[0] != 22 or hello[5] != 1:  # a handshake's ClientHello: RFC 8446, 4.1.2
            return None
        at = 5 + 4 + 2 + 32
        at += 1 + hello[at]  # the session's id
        at += 2 + struct.unpack_from(">H", hello, at)[0]  # ciphers
        at += 1 + hello[at]  # compressions
        end = at + 2 + struct.unpack_from(">H", hello, at)[0]
        at += 2
        while at < end:
            kind, length = struct.unpack_from(">HH", hello, at)
            if kind == 0:
                (size,) = struct.unpack_from(">H", hello, at + 7)
                name = hello[at + 9 : at + 9 + size].decode("ascii").lower()
                return name if len(name) == size else None
            at += 4 + length
    return None


def _split(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    return host.strip("[]"), int(port)


async def relay(address: str, port: int, worker: int, api: str, hosts: Sequence[str]) -> None:
    """Relay until the worker has ended and nothing is connected. Prints the port for the API."""
    by_port: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for host, its_port in map(_split, hosts):
        by_port[its_port].append((host, its_port))
    one = Relay()
    for its_port, to in by_port.items():
        # By those of other workers of this host, and by that of a worker before.
        await one.serve(address, its_port, to, shared=True)
    try:
        own = await one.serve(address, port, [_split(api)])
    except OSError:
        own = await one.serve(address, 0, [_split(api)])
    print(own, flush=True)
    while os.getppid() == worker or one.idle < _IDLE:  # noqa: ASYNC110  # no event says it
        await asyncio.sleep(_LOOK)


def main() -> None:
    """Read the arguments, and relay."""
    address, port, worker, api, *hosts = sys.argv[1:]
    try:
        asyncio.run(relay(address, int(port), int(worker), api, hosts))
    except OSError as error:
        sys.exit(f"the relay of the network of jobs cannot listen at {address}: {error}")


if __name__ == "__main__":
    main()
