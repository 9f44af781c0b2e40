"""How many jobs of a user may wait and run at a time, and how many bytes their results may have."""

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from rich.filesize import decimal

from deployments.gateway.users.access import Caller
from deployments.retention.use import ResultsUse

_TOO_MANY, _NO_SPACE = 429, 507
_ACTIVE = [
    StateType.SCHEDULED,
    StateType.PAUSED,  # held, or waiting for other jobs
    StateType.PENDING,
    StateType.RUNNING,
    StateType.CANCELLING,
]
_PAUSE = 60  # seconds after which a client may try again: some job may have ended by then
_COUNTED = 10.0  # seconds for which a count of jobs, plus those admitted since, is used


@dataclass
class _Count:
    """How many jobs of a user wait or run, at most."""

    at: float
    active: int


class Quota:
    """The bounds on the jobs and results of each user of the gateway.

    `most`: jobs. `most_bytes`: of all results of a user; None for any number.
    """

    def __init__(self, most: int, use: ResultsUse, most_bytes: int | None) -> None:
        self.use = use
        self._most = most
        self._most_bytes = most_bytes
        self._counts: dict[str, _Count] = {}  # by user

    async def check(self, client: PrefectClient, caller: Caller, new: int, *, key: bool) -> None:
        """Check that a user may submit `new` jobs more. Raises HTTPException: 429, 507.

        `key`: whether the call can be repeated. Then only what is there already counts: a call that
        was interrupted is repeated whole, and submits what is missing.
        """
        await self._check_results(caller)
        now, user = time.monotonic(), caller.token.user
        counted = self._counts.get(user)
        is_known = counted is not None and not key and now - counted.at < _COUNTED
        # The server is asked again only where that may be too many: jobs have ended since.
        if counted and is_known and counted.active + new <= self._most:
            counted.active += new
            return
        active = await client.count_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[caller.token.tag]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ACTIVE)),
            )
        )
        if active + (0 if key else new) <= self._most - (1 if key else 0):
            self._counts[user] = _Count(now, active + new)
            return
        reason = (
            f"{active:,} jobs of user '{user}' wait or run, and {self._most:,} may: "
            "submit fewer, or wait until some have ended"
        )
        caller.record(_TOO_MANY, reason=reason)
        raise HTTPException(_TOO_MANY, reason, {"Retry-After": str(_PAUSE)})

    async def _check_results(self, caller: Caller) -> None:
        if self._most_bytes is None:
            return
        user = caller.token.user
        used = await self.use.of(user)
        if used < self._most_bytes:
            return
        reason = (
            f"the results of user '{user}' have {decimal(used)}, and {decimal(self._most_bytes)} "
            "may be: delete results (`prefecture delete --results`), or ask the operator for more"
        )
        caller.record(_NO_SPACE, reason=reason)
        raise HTTPException(_NO_SPACE, reason)


async def _quota(request: Request) -> Quota:
    return request.app.state.quota


JobQuota = Annotated[Quota, Depends(_quota)]
