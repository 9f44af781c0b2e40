"""A route for the state of the whole: queues, slots, hosts, and the throughput of the last hour.

Everybody sees it, so it has counts alone, and no job. However many ask, the server is asked once in
some seconds.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from pydantic import BaseModel

from deployments.gateway.jobs import Anyone, Client
from deployments.pools import read_slots
from deployments.status import AgentStatus, QueueStatus, Status, WorkerStatus, read_status
from tasks.contracts import Pool
from tasks.prefect_api.clock import server_time

STEPS = 12
"""Parts of the last hour, of five minutes each."""
_STEP = timedelta(minutes=5)
_KEPT, _HISTORY_KEPT = 3.0, 30.0  # seconds
_SILENT = 60.0  # seconds after which an agent that reports every few is lost
_COMPUTE = DeploymentFilter(tags=DeploymentFilterTags(all_=["compute"]))

router = APIRouter()


class PoolOverview(BaseModel):
    """One pool of jobs that has a worker or a job."""

    pool: str
    paused: bool
    slots: int | None
    """Jobs that can run at once; None where a worker does not report it."""
    queues: dict[str, dict[str, int]]
    """Of each queue: how many of its jobs wait, run, are scheduled for later, or are held."""


class HostOverview(BaseModel):
    """One host that runs jobs."""

    host: str
    pool: str
    running: int
    well: bool
    drained: bool
    """Whether it takes no new job."""
    findings: list[str]
    """What is wrong with it, each in one line."""


class Overview(BaseModel):
    """The state of the whole."""

    at: datetime
    """By the server's clock."""
    pools: list[PoolOverview]
    hosts: list[HostOverview]
    completed: list[int]
    """Jobs of the last hour, in twelve steps of five minutes."""
    failed: int
    """Jobs that failed in the last hour."""


class Overviews:
    """Reads the overview, and answers with the same one for some seconds."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._read_at = self._counted_at = float("-inf")
        self._overview: Overview | None = None
        self._counts: tuple[list[int], int] = ([], 0)

    async def read(self, client: PrefectClient) -> Overview:
        """The overview, at most three seconds old; its history at most half a minute."""
        async with self._lock:
            clock = asyncio.get_running_loop().time
            if self._overview is None or clock() - self._read_at > _KEPT:
                now = await server_time(client)
                if clock() - self._counted_at > _HISTORY_KEPT:
                    self._counts = await _count(client, now)
                    self._counted_at = clock()
                self._overview = await _read(client, now, *self._counts)
                self._read_at = clock()
            return self._overview


async def _overviews(request: Request) -> Overviews:
    return request.app.state.overview


@router.get("/overview")
async def overview(
    _: Anyone, client: Client, overviews: Annotated[Overviews, Depends(_overviews)]
) -> Overview:
    """Queues, slots and hosts with their health, and how many jobs ended in the last hour."""
    return await overviews.read(client)


async def _read(
    client: PrefectClient, now: datetime, completed: list[int], failed: int
) -> Overview:
    status = await read_status(client)
    pools = [await _pool(client, status, pool) for pool in Pool]
    hosts = [_host(agent) for agent in status.agents if _is_current(agent, status.workers)]
    return Overview(
        at=now,
        pools=[each for each in pools if each is not None],
        hosts=sorted(hosts, key=lambda each: (each.host, each.pool)),
        completed=completed,
        failed=failed,
    )


async def _pool(client: PrefectClient, status: Status, pool: str) -> PoolOverview | None:
    queues = [queue for queue in status.queues if queue.pool == pool]
    is_used = any(each.pool == pool and each.status == "ONLINE" for each in status.workers)
    if not queues or not (is_used or any(map(_jobs_in, queues))):
        return None
    taken = await read_slots(client, pool) if is_used else 0
    limit = (await client.read_work_pool(pool)).concurrency_limit
    return PoolOverview(
        pool=pool,
        paused=pool in status.paused,
        slots=taken if limit is None or taken is None else min(taken, limit),
        queues={
            queue.name: {
                "waiting": queue.waiting,
                "running": queue.running,
                "scheduled": queue.scheduled,
                "held": queue.held,
            }
            for queue in queues
        },
    )


def _jobs_in(queue: QueueStatus) -> int:
    return queue.waiting + queue.running + queue.scheduled + queue.held


def _is_current(agent: AgentStatus, workers: list[WorkerStatus]) -> bool:
    """Whether an agent still counts: one whose worker has left for good does not."""
    return agent.ago < _SILENT or any(each.name == agent.report.worker for each in workers)


def _host(agent: AgentStatus) -> HostOverview:
    report = agent.report
    findings = [f"{check}: {what}" for check, what in sorted(report.failed.items())]
    if agent.ago > _SILENT:
        findings.insert(0, f"it has not reported for {agent.ago / 60:.0f} minutes")
    return HostOverview(
        host=report.host,
        pool=report.pool,
        running=report.running,
        drained=report.drained,
        well=not findings,
        findings=findings,
    )


async def _count(client: PrefectClient, now: datetime) -> tuple[list[int], int]:
    """Completed jobs in each step of the last hour, and those that failed in it."""
    begin = now - STEPS * _STEP
    completed = [
        await _ended(client, StateType.COMPLETED, begin + step * _STEP, begin + (step + 1) * _STEP)
        for step in range(STEPS)
    ]
    return completed, await _ended(client, StateType.FAILED, begin, now)


async def _ended(client: PrefectClient, state: StateType, after: datetime, before: datetime) -> int:
    wanted: dict[str, Any] = {
        "state": {"type": {"any_": [state]}},
        "end_time": {"after_": after, "before_": before},
    }
    return await client.count_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(wanted),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
        deployment_filter=_COMPUTE,
    )
