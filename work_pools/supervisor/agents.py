"""This host's agent among the others: it reports, listens, and holds the intake while unwell."""

import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate, WorkPoolUpdate
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from tasks.contracts import AGENT_VARIABLES, AgentReport
from tasks.prefect_api.pages import PAGE
from tasks.runtime import events
from tasks.settings import Settings
from work_pools.supervisor.liveness import Liveness

_USUAL_INTERVAL = 30  # seconds between two heartbeats of a worker that does not say
_HEART = "worker "  # before a worker's name, where a worker's own heartbeats are noted
_MISSED = 3  # heartbeats that a worker may miss
_REPORT = 5.0  # seconds between two reports, at most
_BEATS = 4  # reports in the time after which the others take silence for an end
_FEW = 4  # hosts of which each may ask after all the others at each report
_EARLY = 0.5  # of an interval, by which a report may come before its time
_TELL_AGAIN = 60.0  # seconds between two events that say the same
_NOT_FOUND = 404
_log = logging.getLogger(__name__)


class Agents:
    """What is known of the agents and workers of a pool, this host's own among them."""

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
        self._listening = asyncio.Lock()
        self._told = -_TELL_AGAIN
        self._told_of: set[str] = set()
        self.clock_ahead = 0.0
        """Seconds that this host's clock is ahead of the server's."""

    @property
    def interval(self) -> float:
        """Seconds between two reports."""
        # One that comes late is not silence yet.
        return min(_REPORT, self._settings.agent_timeout / _BEATS)

    @property
    def hosts(self) -> int:
        """How many hosts work for the pool, this one among them, as far as was heard."""
        return 1 + sum(1 for worker in self._others if self.speaks(worker))

    async def report(self, failed: dict[str, str], running: int) -> None:
        """Tell how this host is, hear how the others are, hold or release the pool's intake."""
        # All hosts asking after all others at each report is more than a server can answer.
        urgent = bool(failed) or self._own.holds_intake
        reports = 1.0 if urgent else max(1.0, self.hosts / _FEW)
        await self.listen(self.interval * (reports - _EARLY))
        changed = failed.keys() != self._told_of
        self._own = self._own.model_copy(update={"failed": failed, "running": running})
        # Said before it is done: whoever comes after us knows whose pause it is.
        if failed:
            await self._hold()
        else:
            await self._release()
        await self._say()
        now = asyncio.get_running_loop().time()
        if changed or now - self._told >= _TELL_AGAIN:
            self._told, self._told_of = now, set(failed)
            events.agent_reported(self._own)
            if changed:
                _log.warning("failed checks: %s", failed or "none any more")

    async def leave(self) -> None:
        """Say good-bye: this host's jobs are settled by whoever stops it."""
        await self._release()
        await self._client.delete_variable_by_name(self._own.variable)

    def forget(self) -> None:
        """The server was away: no one's silence counts that began before."""
        self._liveness.forget()

    @property
    def alone(self) -> bool:
        """Whether no other host works for this pool."""
        return self.hosts == 1

    def speaks(self, worker: str) -> bool:
        """Whether the agent beside another worker is there."""
        # One that was not listened to since the server was away has the benefit of the doubt.
        return worker in self._others and not self._liveness.is_silent(worker)

    def is_silent(self, worker: str) -> bool:
        """Whether neither a worker nor the agent beside it has been heard of for long enough.

        One that was never heard of is silent only once it has been listened for as long.
        """
        self._liveness.expect(worker, self._settings.agent_timeout)
        worker_heard = self._liveness.silence(_heart(worker)) is not None
        silent = self._liveness.is_silent(worker)
        return silent and (not worker_heard or self._liveness.is_silent(_heart(worker)))

    @property
    def all_workers_speak(self) -> bool:
        """Whether every worker of the pool that was ever heard of still is."""
        return not self._liveness.any_is_silent(_HEART)

    def hangs(self, times: int) -> bool:
        """Whether the worker beside this agent was heard once, and now is not for so many times
        what it may take."""
        return self._liveness.is_silent(_heart(self._own.worker), times)

    async def listen(self, interval: float) -> None:
        """Hear the pool's agents and workers, where that was not done for so many seconds."""
        async with self._listening:
            if self._liveness.since_listened < interval:
                return
            await self._hear_agents()
            await self._hear_workers()
            self._liveness.listened()

    async def _hear_workers(self) -> None:
        """Their heartbeats count as speaking too."""
        for offset in range(0, sys.maxsize, PAGE):
            page = await self._client.read_workers_for_work_pool(
                self._own.pool, offset=offset, limit=PAGE
            )
            for worker in page:
                patience = max(
                    self._settings.agent_timeout,
                    _MISSED * (worker.heartbeat_interval_seconds or _USUAL_INTERVAL),
                )
                self._liveness.note(_heart(worker.name), worker.last_heartbeat_time, patience)
            if len(page) < PAGE:
                break

    async def _hear_agents(self) -> None:
        response, listed = await self._page(0)
        while len(listed) % PAGE == 0 and listed:
            _, more = await self._page(len(listed))
            if not more:
                break
            listed += more
        if told := response.headers.get("date"):
            # The server cuts off the fraction of a second: never less than it is, a second more at
            # most.
            ahead = datetime.now(UTC) - parsedate_to_datetime(told)
            self.clock_ahead = ahead.total_seconds()
        others: dict[str, AgentReport] = {}
        for variable in listed:
            try:
                report = AgentReport.model_validate(variable.value)
            except ValidationError:
                continue  # someone else's, in spite of its name
            if report.pool != self._own.pool:
                continue
            if report.worker == self._own.worker:
                # Ours from before a restart, or a second one's beside us.
                if report.holds_intake:
                    self._own = self._own.model_copy(update={"holds_intake": True})
                continue
            others[report.worker] = report
            self._liveness.note(report.worker, report.at, self._settings.agent_timeout)
        self._others = others

    async def _page(self, offset: int) -> tuple[httpx.Response, list[Variable]]:
        """The variables that agents report in, from one on."""
        wanted = {"variables": {"name": {"like_": f"{AGENT_VARIABLES}%"}}}
        response = await self._client.request(
            "POST",
            "/variables/filter",
            json=wanted | {"limit": PAGE, "offset": offset, "sort": "NAME_ASC"},
        )
        return response, Variable.model_validate_list(response.json())

    async def _say(self) -> None:
        self._own = self._own.model_copy(update={"at": datetime.now(UTC)})
        value = self._own.model_dump(mode="json")
        name = self._own.variable
        try:
            # Not as Prefect's Variable: that asks first, and with a new client each time.
            await self._client.update_variable(VariableUpdate(name=name, value=value))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != _NOT_FOUND:
                raise
            await self._client.create_variable(VariableCreate(name=name, value=value))

    async def _hold(self) -> None:
        pool = await self._client.read_work_pool(self._own.pool)
        others_hold = any(report.holds_intake for report in self._others.values())
        if pool.is_paused and not others_hold:
            return  # by us, or by a person: then it stays so when we are well again
        if not self._own.holds_intake:
            self._own = self._own.model_copy(update={"holds_intake": True})
            await self._say()
        if not pool.is_paused:
            await self._client.update_work_pool(self._own.pool, WorkPoolUpdate(is_paused=True))
            _log.warning("the pool's intake is paused")

    async def _release(self) -> None:
        """Resume the intake, where it was us, or someone who is gone, and no one else needs it."""
        speaking = [r for r in self._others.values() if self.speaks(r.worker)]
        gone = [r for r in self._others.values() if not self.speaks(r.worker)]
        held = self._own.holds_intake or any(report.holds_intake for report in gone)
        if held and not any(report.holds_intake for report in speaking):
            await self._client.update_work_pool(self._own.pool, WorkPoolUpdate(is_paused=False))
            _log.warning("the pool's intake is resumed")
        self._own = self._own.model_copy(update={"holds_intake": False})
        for report in gone:
            with contextlib.suppress(ObjectNotFound):  # another one was first
                await self._client.delete_variable_by_name(report.variable)


def _heart(worker: str) -> str:
    return f"{_HEART}{worker}"
