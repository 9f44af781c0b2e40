"""What users can do with schedules, wherever they are: on Prefect's server, or in a gateway."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

from deployments.gateway_login import current_login
from deployments.jobs.request import Terms


class ListedSchedule(Protocol):
    """A schedule, as a list shows it."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def results_directory(self) -> str: ...
    @property
    def cron(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def active(self) -> bool: ...
    @property
    def next(self) -> Sequence[datetime]:
        """The due times of the next jobs."""
        ...

    @property
    def error(self) -> str:
        """Why the last due time had no job, in one line; empty where it had, or is not known."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The schedule as JSON."""
        ...


class Schedules(Protocol):
    """Schedules, each with a name. Every method raises PrefectureError where it is refused, and
    InvalidPayload where there is no schedule of a name."""

    async def add(
        self,
        terms: Terms,
        payload: Mapping[str, Any],
        cron: str,
        timezone: str,
        name: str | None,
    ) -> str:
        """Create a schedule. Returns its name."""
        ...

    async def list(self) -> Sequence[ListedSchedule]:
        """All schedules that this user may see, by their names."""
        ...

    async def set_active(self, name: str, *, active: bool) -> None:
        """Pause or resume a schedule."""
        ...

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a schedule. `force`: also where jobs that wait go with it."""
        ...


@asynccontextmanager
async def open_schedules(say: Callable[[str], None] = lambda _: None) -> AsyncGenerator[Schedules]:
    """The schedules of the gateway where one is set or logged in to, else those of the Prefect
    server. `say` is told, in a line, of what is uploaded."""
    # Only one of the two is imported: Prefect takes a second of the time of a command.
    login = current_login()
    if login is not None:
        from deployments.client.gateway.requests import connected
        from deployments.client.gateway.schedules import GatewaySchedules

        async with connected(login) as requests:
            yield GatewaySchedules(requests, say)
    else:
        from deployments.client.prefect_schedules import open_server_schedules

        async with open_server_schedules() as schedules:
            yield schedules
