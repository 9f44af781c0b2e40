"""Passing a TCP connection on to another host."""

import asyncio

PIECE = 2**16
"""Bytes that are passed on at once."""
_PATIENCE = 30.0  # seconds to reach a host


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int]
) -> None:
    """Connect to a host, and copy in both directions until both sides have ended.

    Raises OSError where the host is not reached, or one side breaks the connection; TimeoutError.
    """
    there = await asyncio.wait_for(asyncio.open_connection(*to, limit=PIECE), _PATIENCE)
    try:
        # Where one side breaks the connection, its own copying ends it for both.
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
    finally:
        there[1].close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(PIECE):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()
