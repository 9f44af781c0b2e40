"""How many jobs of a user may wait and run at a time."""

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

from deployments.gateway.users.access import Caller

_TOO_MANY = 429
_ACTIVE = [
    StateType.SCHEDULED,
    StateType.PAUSED,  # held, or waiting for other jobs
    StateType.PENDING,
    StateType.RUNNING,
    StateType.CANCELLING,
]
_PAUSE = 60  # seconds after which a client may try again: some job may have ended by then


class Quota:
    """The bound on the jobs of each user of the gateway."""

    def __init__(self, most: int) -> None:
        self._most = most

    async def check(self, client: PrefectClient, caller: Caller, new: int, *, key: bool) -> None:
        """Check that a user may submit `new` jobs more. Raises HTTPException: 429.

        `key`: whether the call can be repeated. Then only what is there already counts: a call that
        was interrupted is repeated whole, and submits what is missing.
        """
        active = await client.count_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[caller.token.tag]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ACTIVE)),
            )
        )
        if active + (0 if key else new) <= self._most - (1 if key else 0):
            return
        reason = (
            f"{active:,} jobs of user '{caller.token.user}' wait or run, and {self._most:,} may: "
            "submit fewer, or wait until some have ended"
        )
        caller.record(_TOO_MANY, reason=reason)
        raise HTTPException(_TOO_MANY, reason, {"Retry-After": str(_PAUSE)})


async def _quota(request: Request) -> Quota:
    return request.app.state.quota


JobQuota = Annotated[Quota, Depends(_quota)]
