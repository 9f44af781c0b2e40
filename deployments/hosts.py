"""Draining of hosts: a host takes no new job, and after a deadline gives up those that run."""

import asyncio
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from deployments.pools import read_worker_reports, read_workers
from deployments.status import RUNNING, read_agents
from tasks.contracts import WORKER_LABEL, Drain, Pool
from tasks.errors import OperatorError
from tasks.prefect_api.clock import server_time
from tasks.prefect_api.drains import announce_drain, read_drains
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.variables import put_variable

_LOOK = 1.0  # seconds between two looks at what still runs on a host
_SHOWN = 20  # names in an error


@dataclass(frozen=True)
class Member:
    """A worker of a host."""

    pool: str
    worker: str
    online: bool
    stock: bool
    """Whether it is Prefect's own, which takes jobs all the same."""
    supervised: bool
    """Whether a supervisor beside it reports: it moves what runs when the deadline is over."""


async def drain(client: PrefectClient, host: str, deadline: timedelta | None) -> list[Member]:
    """Let a host take no new job, from now on. Returns its workers.

    `deadline`: after which jobs that still run are moved to other hosts. A second call replaces
    it. Raises OperatorError where no host or worker has this name.
    """
    members = await members_of(client, host)
    now = await server_time(client)
    until = now + deadline if deadline is not None else None
    wanted = Drain(host=host, since=now, until=until)
    await put_variable(client, wanted.variable, wanted)
    await announce_drain(client, host)
    return members


async def undo_drain(client: PrefectClient, host: str) -> None:
    """Let a host take jobs again. Raises OperatorError where it is not drained."""
    drains = await read_drains(client)
    found = [each for each in drains if each.host == host]
    if not found:
        names = ", ".join(sorted(each.host for each in drains)[:_SHOWN])
        raise OperatorError(f"{host} is not drained; drained now: {names or 'no host'}")
    for each in found:
        try:
            await client.delete_variable_by_name(each.variable)
        except ObjectNotFound:
            continue  # another operator was first
    await announce_drain(client, host)


async def members_of(client: PrefectClient, host: str) -> list[Member]:
    """The workers of a host, or the worker of this name, online or not.

    Raises OperatorError, with the names that there are, where there is none.
    """
    reports = {(each.pool, each.worker): each for each in await read_worker_reports(client)}
    agents = {(one.report.pool, one.report.worker): one.report for one in await read_agents(client)}
    members: list[Member] = []
    known: set[str] = set()
    for pool in Pool:
        for worker in await read_workers(client, pool):
            key = (pool.value, worker.name)
            names = {
                worker.name,
                *(each.host for each in (reports.get(key), agents.get(key)) if each),
            }
            online = worker.status == "ONLINE"
            if host in names:
                members.append(Member(pool, worker.name, online, key not in reports, key in agents))
            elif online:
                known |= names - {""}
    if not members:
        names = ", ".join(sorted(known)[:_SHOWN])
        raise OperatorError(f"no host or worker is named {host}; there are: {names or 'none'}")
    return members


async def until_empty(client: PrefectClient, workers: Collection[str]) -> None:
    """Return once none of these workers has a job any more."""
    while True:
        if not await running_on(client, workers):
            return
        await asyncio.sleep(_LOOK)


async def running_on(client: PrefectClient, workers: Collection[str]) -> int:
    """How many jobs these workers run."""
    return sum(run.labels.get(WORKER_LABEL) in workers for run in await held_runs(client))


async def held_runs(client: PrefectClient) -> list[FlowRun]:
    """All runs that workers of our pools hold, read page by page in a stable order."""
    held: list[FlowRun] = []
    for offset in range(0, sys.maxsize, PAGE):
        page = await client.read_flow_runs(
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=RUNNING))
            ),
            sort=FlowRunSort.ID_DESC,
            limit=PAGE,
            offset=offset,
        )
        held += page
        if len(page) < PAGE:
            break
    return held
