"""Schedules through a gateway, by its REST API."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel

from deployments.client.gateway.jobs import GatewayJobs, fields_of, parsed
from deployments.client.gateway.requests import Requests
from deployments.client.gateway.uploads import Say
from deployments.jobs.request import Terms, cut
from tasks.errors import InvalidPayload


class LastError(BaseModel):
    """Why a due time had no job."""

    due: datetime
    reason: str


class GatewaySchedule(BaseModel):
    """A schedule of a user of the gateway."""

    schedule: UUID
    name: str
    user: str
    task: str
    queue: str
    results_directory: str
    cron: str
    timezone: str
    active: bool
    created: datetime
    next: list[datetime]
    last_error: LastError | None

    @property
    def error(self) -> str:
        """Why the last due time had no job."""
        last = self.last_error
        return f"{last.due:%Y-%m-%d %H:%M} UTC: {last.reason}" if last else ""

    def as_json(self) -> dict[str, Any]:
        """The schedule as JSON."""
        return self.model_dump(mode="json")


class GatewaySchedules:
    """The schedules that a user's token allows."""

    def __init__(self, requests: Requests, say: Say) -> None:
        self._requests = requests
        self._jobs = GatewayJobs(requests, say)

    async def add(
        self,
        terms: Terms,
        payload: Mapping[str, Any],
        cron: str,
        timezone: str,
        name: str | None,
    ) -> str:
        """Create a schedule, after its local sources are uploaded: its jobs read that copy."""
        sent = await self._jobs.with_uploads(terms, payload)
        # A request whose answer was lost is sent again: the same name is the same schedule.
        own = name or f"{terms.task}-{uuid4().hex[:6]}"
        body = {"payload": sent, "cron": cron, "timezone": timezone, "name": own}
        answer = await self._requests.send("POST", "/schedules", json=fields_of(terms) | body)
        return str(answer.json()["name"])

    async def list(self) -> list[GatewaySchedule]:
        """The user's schedules; with the scope read-all, those of all users."""
        return parsed(list[GatewaySchedule], await self._requests.get("/schedules"))

    async def set_active(self, name: str, *, active: bool) -> None:
        """Pause or resume a schedule."""
        found = await self._find(name)
        action = "resume" if active else "pause"
        await self._requests.send("POST", f"/schedules/{found}/{action}")

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a schedule: no job goes with it, with `force` or without."""
        await self._requests.send("DELETE", f"/schedules/{await self._find(name)}", once=True)

    async def _find(self, name: str) -> UUID:
        """The id of a schedule, by its name or id. Raises InvalidPayload."""
        schedules = await self.list()
        found = [each.schedule for each in schedules if name in (each.name, str(each.schedule))]
        if len(found) > 1:
            raise InvalidPayload(
                f"several users have a schedule '{cut(name)}': name it by its id, which "
                "`prefecture schedule list --json` shows"
            )
        if not found:
            names = ", ".join(each.name for each in schedules)
            known = f"there are {names}" if names else "there are none"
            raise InvalidPayload(f"there is no schedule '{cut(name)}': {known}")
        return found[0]
