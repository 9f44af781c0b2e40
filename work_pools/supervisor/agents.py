"""This host's agent: reports its health, reads other agents' reports, pauses the pool's intake."""

import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectNotFound

from tasks.contracts import AGENT_VARIABLES, AgentReport
from tasks.prefect_api.clock import ServerClock
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.variables import put_variable, values_as
from tasks.runtime import events
from tasks.settings import Settings
from work_pools.supervisor.liveness import Liveness

_USUAL_INTERVAL = 30  # seconds between two heartbeats of a worker that does not report its own
_WORKER = "worker "  # prefix of the names under which Liveness has the workers' own heartbeats
_MISSED = 3  # heartbeats that a worker may miss
_REPORT = 5.0  # seconds between two reports, at most
_REPORTS_IN_TIMEOUT = 4  # reports within agent_timeout, after which the others call it silent
_FEW = 4  # up to so many hosts read all other reports at each of their own
_EARLY = 0.5  # share of an interval by which a report may be early
_EVENT_INTERVAL = 60.0  # seconds between two events about the same state
_log = logging.getLogger(__name__)


class Agents:
    """The agents and workers of a pool, with this host's own, as the server last reported them."""

    def __init__(
        self, client: PrefectClient, pool: str, host: str, worker: str, settings: Settings
    ) -> None:
        self._client = client
        self._settings = settings
        self._own = AgentReport(
            host=host,
            pool=pool,
            worker=worker,
            failed={},
            running=0,
            holds_intake=False,
            at=datetime.now(UTC),
        )
        self._others: dict[str, AgentReport] = {}  # by worker
        self._liveness = Liveness()
        self._refreshing = asyncio.Lock()
        self._event_at = -_EVENT_INTERVAL
        self._event_checks: set[str] = set()
        self.clock = ServerClock()

    @property
    def interval(self) -> float:
        """Seconds between two reports."""
        # Several reports within the timeout: a single late one is not yet silence.
        return min(_REPORT, self._settings.agent_timeout / _REPORTS_IN_TIMEOUT)

    @property
    def hosts(self) -> int:
        """How many hosts work for the pool, this one included, by the reports read so far."""
        return 1 + sum(1 for worker in self._others if self.is_online(worker))

    async def report(self, failed: dict[str, str], running: int, *, drained: bool = False) -> None:
        """Report this host's health, read the others', and pause or resume the pool's intake."""
        # N hosts that each read N reports every time are more than a server can answer.
        urgent = bool(failed) or self._own.holds_intake
        reports = 1.0 if urgent else max(1.0, self.hosts / _FEW)
        await self.refresh(self.interval * (reports - _EARLY))
        empty = self._own.drained and not self._own.running
        self._own = self._own.model_copy(
            update={"failed": failed, "running": running, "drained": drained}
        )
        changed = failed.keys() != self._event_checks
        emptied = drained and not running and not empty
        # Reported before the intake is paused, so that others know whose pause it is.
        if failed:
            await self._hold()
        else:
            await self._release()
        await self._publish()
        now = asyncio.get_running_loop().time()
        if emptied:
            events.host_emptied(self._own)
        if changed or now - self._event_at >= _EVENT_INTERVAL:
            self._event_at, self._event_checks = now, set(failed)
            events.agent_reported(self._own)
            if changed:
                _log.warning("failed checks: %s", failed or "none any more")

    async def deregister(self) -> None:
        """Remove our report and resume the intake. The program that stops us handles our jobs."""
        await self._release()
        await self._client.delete_variable_by_name(self._own.variable)

    def forget(self) -> None:
        """Restart all silences at zero, after an outage of the server."""
        self._liveness.forget()

    @property
    def alone(self) -> bool:
        """Whether no other host works for this pool."""
        return self.hosts == 1

    def is_online(self, worker: str) -> bool:
        """Whether the agent beside another worker reports."""
        # An agent whose report was not read since an outage of the server counts as online.
        return worker in self._others and not self._liveness.is_silent(worker)

    def is_silent(self, worker: str) -> bool:
        """Whether a worker and the agent beside it have both been silent for their timeouts.

        For a worker that never reported, the silence begins with the first call.
        """
        self._liveness.expect(worker, self._settings.agent_timeout)
        known = self._liveness.silence(_worker_key(worker)) is not None
        silent = self._liveness.is_silent(worker)
        return silent and (not known or self._liveness.is_silent(_worker_key(worker)))

    @property
    def all_workers_online(self) -> bool:
        """Whether no known worker of the pool is silent."""
        return not self._liveness.any_is_silent(_WORKER)

    def worker_hangs(self, times: int) -> bool:
        """Whether the worker beside this agent has been silent for `times` its timeout."""
        return self._liveness.is_silent(_worker_key(self._own.worker), times)

    async def refresh(self, interval: float) -> None:
        """Read the pool's agents and workers, unless that was done within `interval` seconds."""
        async with self._refreshing:
            if self._liveness.since_refreshed < interval:
                return
            await self._read_agents()
            await self._read_workers()
            self._liveness.refreshed()

    async def _read_workers(self) -> None:
        """Read the workers' heartbeats."""
        for offset in range(0, sys.maxsize, PAGE):
            page = await self._client.read_workers_for_work_pool(
                self._own.pool, offset=offset, limit=PAGE
            )
            for worker in page:
                timeout = max(
                    self._settings.agent_timeout,
                    _MISSED * (worker.heartbeat_interval_seconds or _USUAL_INTERVAL),
                )
                self._liveness.note(_worker_key(worker.name), worker.last_heartbeat_time, timeout)
            if len(page) < PAGE:
                break

    async def _read_agents(self) -> None:
        response, listed = await self._read_page(0)
        while len(listed) % PAGE == 0 and listed:
            _, more = await self._read_page(len(listed))
            if not more:
                break
            listed += more
        if date := response.headers.get("date"):
            self.clock.measure(date)
        others: dict[str, AgentReport] = {}
        for _, report in values_as(listed, AgentReport):
            if report.pool != self._own.pool:
                continue
            if report.worker == self._own.worker:
                # Our own from before a restart, or that of a second supervisor beside us.
                if report.holds_intake:
                    self._own = self._own.model_copy(update={"holds_intake": True})
                continue
            others[report.worker] = report
            self._liveness.note(report.worker, report.at, self._settings.agent_timeout)
        self._others = others

    async def _read_page(self, offset: int) -> tuple[httpx.Response, list[Variable]]:
        """A page of the variables with agents' reports, from `offset` on."""
        wanted = {"variables": {"name": {"like_": f"{AGENT_VARIABLES}%"}}}
        response = await self._client.request(
            "POST",
            "/variables/filter",
            json=wanted | {"limit": PAGE, "offset": offset, "sort": "NAME_ASC"},
        )
        return response, Variable.model_validate_list(response.json())

    async def _publish(self) -> None:
        self._own = self._own.model_copy(update={"at": datetime.now(UTC)})
        await put_variable(self._client, self._own.variable, self._own)

    async def _hold(self) -> None:
        pool = await self._client.read_work_pool(self._own.pool)
        others_hold = any(report.holds_intake for report in self._others.values())
        if pool.is_paused and not others_hold:
            return  # paused by us, or by a person: a person's pause stays
        if not self._own.holds_intake:
            self._own = self._own.model_copy(update={"holds_intake": True})
            await self._publish()
        if not pool.is_paused:
            await self._client.update_work_pool(self._own.pool, WorkPoolUpdate(is_paused=True))
            _log.warning("the pool's intake is paused")

    async def _release(self) -> None:
        """Resume the intake where we or an agent now gone paused it and no agent needs it."""
        online = [r for r in self._others.values() if self.is_online(r.worker)]
        gone = [r for r in self._others.values() if not self.is_online(r.worker)]
        held = self._own.holds_intake or any(report.holds_intake for report in gone)
        if held and not any(report.holds_intake for report in online):
            await self._client.update_work_pool(self._own.pool, WorkPoolUpdate(is_paused=False))
            _log.warning("the pool's intake is resumed")
        self._own = self._own.model_copy(update={"holds_intake": False})
        for report in gone:
            with contextlib.suppress(ObjectNotFound):  # another agent was first
                await self._client.delete_variable_by_name(report.variable)


def _worker_key(worker: str) -> str:
    return f"{_WORKER}{worker}"
