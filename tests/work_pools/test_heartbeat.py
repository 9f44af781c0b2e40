"""The supervisor's sign of life, into a real pipe."""

import asyncio
import os

import pytest

from tests.support.platform import wait_until
from work_pools.supervisor import heartbeat
from work_pools.supervisor.heartbeat import beat


def read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 100_000)
    except BlockingIOError:
        return b""


async def test_it_beats_whether_it_is_read_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_INTERVAL", 0.0)
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)
    beating = asyncio.create_task(beat(writes))
    try:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writes, b"x" * 4096)  # until it is full
        async with asyncio.timeout(60):
            for _ in range(3):
                await asyncio.to_thread(wait_until, lambda: b"." in read(reads), every=0.001)
            assert not beating.done()
            os.close(reads)
            await beating
    finally:
        beating.cancel()
        os.close(writes)
