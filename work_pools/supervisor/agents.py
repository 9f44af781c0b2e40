"""This host's agent among the others: it reports, listens, and holds the intake while unwell."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate, WorkPoolUpdate
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from tasks import events
from tasks.contracts import AGENT_VARIABLES, AgentReport
from tasks.settings import Settings

_USUAL_INTERVAL = 30  # seconds between two heartbeats of a worker that does not say
_HEART = "worker "  # before a worker's name, where a worker's own heartbeats are noted
_BEATS = 3  # heartbeats that a worker may miss
_TELL_AGAIN = 60.0  # seconds between two events that say the same
_NOT_FOUND = 404
_MOST = 200  # agents and other variables that one request reads
_log = logging.getLogger(__name__)


@dataclass
class _Voice:
    """One who should speak again and again. By our own clock alone: no two are compared."""

    said: object
    at: float
    """When it was last heard to say something new."""
    patience: float
    """Seconds of silence that are nothing yet."""

    @property
    def is_silent(self) -> bool:
        return self.silence > self.patience

    @property
    def silence(self) -> float:
        return asyncio.get_running_loop().time() - self.at


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
        self._heard: dict[str, _Voice] = {}
        self._told = -_TELL_AGAIN
        self._told_of: set[str] = set()
        self.clock_ahead = 0.0
        """Seconds that this host's clock is ahead of the server's."""

    async def report(self, failed: dict[str, str], running: int) -> None:
        """Tell how this host is, hear how the others are, hold or release the pool's intake."""
        await self._listen()
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
        self._heard.clear()

    @property
    def alone(self) -> bool:
        """Whether no other host works for this pool."""
        return not any(self.speaks(worker) for worker in self._others)

    def speaks(self, worker: str) -> bool:
        """Whether the agent beside another worker is there."""
        voice = self._heard.get(worker)
        # One that was not listened to since the server was away has the benefit of the doubt.
        return worker in self._others and (voice is None or not voice.is_silent)

    def is_silent(self, worker: str) -> bool:
        """Whether neither a worker nor the agent beside it has been heard of for long enough.

        One that was never heard of is silent only once it has been listened for as long.
        """
        if worker not in self._heard:
            self._note(worker, None, self._settings.agent_timeout)
        voices = (self._heard.get(worker), self._heard.get(_heart(worker)))
        return all(voice.is_silent for voice in voices if voice is not None)

    @property
    def all_workers_speak(self) -> bool:
        """Whether every worker of the pool that was ever heard of still is."""
        hearts = (voice for key, voice in self._heard.items() if key.startswith(_HEART))
        return not any(voice.is_silent for voice in hearts)

    async def hear_workers(self) -> None:
        """Note the heartbeats of the pool's workers, which count as speaking too."""
        for worker in await self._client.read_workers_for_work_pool(self._own.pool):
            patience = max(
                self._settings.agent_timeout,
                _BEATS * (worker.heartbeat_interval_seconds or _USUAL_INTERVAL),
            )
            self._note(_heart(worker.name), worker.last_heartbeat_time, patience)

    def hangs(self, times: int) -> bool:
        """Whether the worker beside this agent was heard once, and now is not for so many times
        what it may take."""
        voice = self._heard.get(_heart(self._own.worker))
        return voice is not None and voice.silence > times * voice.patience

    def _note(self, key: str, said: object, patience: float) -> None:
        if key not in self._heard or self._heard[key].said != said:
            self._heard[key] = _Voice(said, asyncio.get_running_loop().time(), patience)

    async def _listen(self) -> None:
        response, listed = await self._page(0)
        while len(listed) % _MOST == 0 and listed:
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
            self._note(report.worker, report.at, self._settings.agent_timeout)
        self._others = others

    async def _page(self, offset: int) -> tuple[httpx.Response, list[Variable]]:
        """The variables that agents report in, from one on."""
        wanted = {"variables": {"name": {"like_": f"{AGENT_VARIABLES}%"}}}
        response = await self._client.request(
            "POST",
            "/variables/filter",
            json=wanted | {"limit": _MOST, "offset": offset, "sort": "NAME_ASC"},
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
