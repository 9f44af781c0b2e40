"""Reads the log of a job, in all of its attempts."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import Log
from prefect.client.schemas.sorting import LogSort

from deployments.connection import connect
from deployments.jobs.attempts import OUTCOMES, decisive_attempt, known_attempts
from deployments.jobs.following import LONGEST_OUTAGE, outage_error
from tasks.contracts import attempt_number
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.transient import is_transient

_POLL = 1.0  # seconds between two queries
# The API shows a run's last lines some seconds after they were written, and after its end.
_LATE = timedelta(seconds=10)
_SETTLED = 5.0


@dataclass(frozen=True)
class Line:
    """One record of a log; its message may have several lines."""

    at: datetime
    attempt: int
    level: int
    """The level as in Python's logging: 20 is INFO, 40 is ERROR."""
    message: str

    def as_json(self) -> dict[str, Any]:
        """The record as JSON, its level by name."""
        level = logging.getLevelName(self.level)
        named = {"level": level, "attempt": self.attempt, "message": self.message}
        return {"at": self.at.isoformat()} | named


async def read_logs(job: UUID, *, follow: bool = False) -> AsyncGenerator[Line]:
    """Read the log of a job, oldest line first; with `follow`, until it has ended.

    `job` is its id, or the id of any attempt at it. With `follow`, tolerates ten minutes without a
    server. Raises InvalidPayload where the server knows no such job, and ServerUnavailable.
    """
    seen: set[UUID] = set()
    since: datetime | None = None
    clock = asyncio.get_running_loop().time
    answered: float | None = None
    ended_at: float | None = None
    # To follow, without the retries of Prefect's client: see `following.follow`.
    async with connect(retries=0 if follow else None) as client:
        while True:
            try:
                runs = await known_attempts(client, job)
                logs = await _logs(client, [run.id for run in runs], since and since - _LATE)
                answered = clock()
            except httpx.HTTPError as error:
                if answered is None or not is_transient(error):
                    raise
                if clock() - answered > LONGEST_OUTAGE:
                    raise outage_error(job) from error
                await asyncio.sleep(_POLL)
                continue
            attempts = {run.id: attempt_number(run.labels) for run in runs}
            for log in logs:
                if log.id in seen or log.flow_run_id is None:
                    continue
                seen.add(log.id)
                since = log.timestamp
                yield Line(log.timestamp, attempts[log.flow_run_id], log.level, log.message)
            ended = decisive_attempt(runs).state_type in OUTCOMES
            ended_at = (ended_at or clock()) if ended else None
            if not follow or (ended_at is not None and clock() - ended_at > _SETTLED):
                return
            await asyncio.sleep(_POLL)


async def _logs(client: PrefectClient, runs: list[UUID], since: datetime | None) -> list[Log]:
    """The log records of the runs, oldest first."""
    wanted = {"flow_run_id": {"any_": runs}} | ({"timestamp": {"after_": since}} if since else {})
    found: list[Log] = []
    for page in count():
        logs = await client.read_logs(
            log_filter=LogFilter.model_validate(wanted),
            limit=PAGE,
            offset=page * PAGE,
            sort=LogSort.TIMESTAMP_ASC,
        )
        found += logs
        if len(logs) < PAGE:
            break
    return found
