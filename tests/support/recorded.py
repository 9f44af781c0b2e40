"""A client of Prefect's whose requests are recorded."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from prefect.client.orchestration import PrefectClient

from tests.support.session.environment import PASSWORD


@asynccontextmanager
async def recorded_client(api: str, requests: list[str]) -> AsyncGenerator[PrefectClient]:
    """A client of a server. The path of each request, below /api, is added to `requests`."""

    async def note(request: httpx.Request) -> None:
        requests.append(request.url.path.removeprefix("/api"))

    hooks = {"event_hooks": {"request": [note]}}
    async with PrefectClient(api, auth_string=PASSWORD, httpx_settings=hooks) as client:
        yield client
