"""Opens the jobs that this user works with: of a gateway, or of a Prefect server."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from deployments.client.interface import Jobs
from deployments.gateway_login import current_login


@asynccontextmanager
async def open_jobs(say: Callable[[str], None] = lambda _: None) -> AsyncGenerator[Jobs]:
    """The jobs of the gateway where one is set or logged in to, else those of the Prefect server.

    `say` is told, in a line, of what is uploaded. Raises ServerUnavailable where a request fails,
    and OperatorError where a gateway is set and its token is not.
    """
    # Only one of the two is imported: Prefect takes a second of the time of a command.
    login = current_login()
    if login is not None:
        from deployments.client.gateway.jobs import open_gateway

        async with open_gateway(login, say) as jobs:
            yield jobs
    else:
        from deployments.client.prefect_api import open_server

        async with open_server() as jobs:
            yield jobs
