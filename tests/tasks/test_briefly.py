"""Answers of a server that requests of one client share."""

import asyncio
from typing import Any, cast

import pytest
from prefect.client.orchestration import PrefectClient

from tasks.prefect_api.briefly import briefly


class Client:
    """It stands for a client: only its identity counts."""


def client() -> PrefectClient:
    return cast(Any, Client())


async def test_callers_at_the_same_time_share_one_answer() -> None:
    asked: list[tuple[str, int]] = []

    @briefly(3600)
    async def read(_: PrefectClient, name: str, number: int = 0) -> str:
        asked.append((name, number))
        await asyncio.sleep(0)
        return f"{name} {len(asked)}"

    one, other = client(), client()
    assert await asyncio.gather(*(read(one, "a") for _ in range(5))) == ["a 1"] * 5
    assert [await read(one, "b"), await read(one, "a", number=1)] == ["b 2", "a 3"]
    assert await read(other, "a") == "a 4"
    assert asked == [("a", 0), ("b", 0), ("a", 1), ("a", 0)]


async def test_an_old_answer_and_an_error_do_not_count() -> None:
    asked = 0

    @briefly(0)
    async def read(_: PrefectClient) -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ValueError
        return asked

    one = client()
    with pytest.raises(ValueError):  # its own
        await read(one)
    assert [await read(one), await read(one)] == [2, 3]
