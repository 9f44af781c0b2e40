"""Schedules of Prefect's server, for who has its password."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prefect.client.orchestration import PrefectClient

from deployments.connection import connect
from deployments.jobs import schedules
from deployments.jobs.request import Terms


class ServerSchedules:
    """The schedules of a Prefect server."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def add(
        self,
        terms: Terms,
        payload: Mapping[str, Any],
        cron: str,
        timezone: str,
        name: str | None,
    ) -> str:
        """Create a schedule."""
        return await schedules.create_schedule(self._client, terms, payload, cron, timezone, name)

    async def list(self) -> list[schedules.Scheduled]:
        """All schedules of jobs."""
        return await schedules.list_schedules(self._client)

    async def set_active(self, name: str, *, active: bool) -> None:
        """Pause or resume a schedule."""
        await schedules.set_active(self._client, name, active=active)

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a schedule."""
        await schedules.delete_schedule(self._client, name, force=force)


@asynccontextmanager
async def open_server_schedules() -> AsyncGenerator[ServerSchedules]:
    """The schedules of the server at `deployments.connection.server_api`."""
    async with connect() as client:
        yield ServerSchedules(client)
