"""The list of jobs, as commands and the gateway read it."""

import asyncio
from typing import Any

import pytest

from deployments.connection import connect
from deployments.jobs.queries.listing import list_jobs
from deployments.jobs.queries.selection import Selection


@pytest.mark.usefixtures("here")
async def test_no_request_is_cancelled_where_the_list_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connect() as client:
        listed, cancelled = asyncio.Event(), list[object]()
        read, count = client.read_flow_runs, client.count_flow_runs

        async def reading(**options: Any) -> Any:
            found = await read(**options)
            listed.set()
            return found

        async def counting(**options: Any) -> Any:
            try:
                await listed.wait()
                return await count(**options)
            except asyncio.CancelledError:
                # Its connection would be lost to all later requests of this client.
                cancelled.append(options)
                raise

        monkeypatch.setattr(client, "read_flow_runs", reading)
        monkeypatch.setattr(client, "count_flow_runs", counting)

        found = await list_jobs(client, Selection(tags=("a tag of no job",)), limit=10)

    assert listed.is_set()
    assert found.total == 0
    assert not cancelled
