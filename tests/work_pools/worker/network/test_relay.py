"""The relay that leads out of the network of jobs: bytes arrive, in both directions."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface

import pytest

from tests.support.platform import free_port
from work_pools.worker.network.relay import Relay

HERE = "127.0.0.1"


@asynccontextmanager
async def answering(word: bytes) -> AsyncGenerator[int]:
    """A server that reads to the end, and answers with a word and the number of bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%s %d" % (word, len(await reader.read())))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HERE, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def said(port: int, data: bytes) -> bytes:
    """The answer to some bytes, through a port of the relay; empty where it refuses them."""
    reader, writer = await asyncio.open_connection(HERE, port)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def relay() -> AsyncGenerator[Relay]:
    relay = Relay(IPv4Interface(f"{HERE}/8"))
    yield relay
    relay.close()


async def test_both_sides_hear_each_other_to_the_end(relay: Relay) -> None:
    async with answering(b"api") as port:
        own = await relay.serve(0, (HERE, port))
        size = 3 * 2**20
        assert (
            await asyncio.gather(*(said(own, bytes(size)) for _ in range(8)))
            == [b"api %d" % size] * 8
        )


async def test_host_that_does_not_answer_ends_the_connection(relay: Relay) -> None:
    own = await relay.serve(0, (HERE, free_port()))
    assert await said(own, b"x") == b""


async def test_connections_from_elsewhere_are_closed() -> None:
    relay = Relay(IPv4Interface("127.0.0.2/32"))
    async with answering(b"api") as port:
        own = await relay.serve(0, (HERE, port))
        reader, writer = await asyncio.open_connection("127.0.0.2", own, local_addr=(HERE, 0))
        assert await reader.read() == b""
        writer.close()
    relay.close()
