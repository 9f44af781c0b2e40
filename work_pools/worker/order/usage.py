"""The slot time of each user, in seconds that count half after a set time.

Each worker reports what its own jobs have used in a Prefect variable, and reads what the others
report.
"""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from tasks.contracts import USAGE_VARIABLES, UsageReport
from tasks.prefect_api.variables import put_variable, read_variables, values_as

_LEAST = 1.0  # seconds that a job counts from its start: short jobs are not free
_INTERVAL = 5.0  # seconds between two exchanges with the other workers
_LONGEST = 4500  # characters of a report: Prefect's variables have 5,000


@dataclass
class _Open:
    """A job of this worker that has a slot."""

    user: str
    started: float | None = None
    """By time.monotonic; None before it has started."""


class Usage:
    """The slot time of users on all hosts of a pool. `half_life`: seconds in which it halves."""

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._used: dict[str, float] = {}  # of this worker's jobs that have ended
        self._at = time.monotonic()
        self._open: dict[UUID, _Open] = {}
        self._others: list[UsageReport] = []
        self._exchanged = -_INTERVAL
        self._is_known = False

    def take(self, run: UUID, user: str) -> None:
        """Count a job that gets a slot."""
        self._open.setdefault(run, _Open(user))

    def start(self, run: UUID) -> None:
        """Count the time of a job from now on."""
        if run in self._open:
            self._open[run].started = time.monotonic()

    def end(self, run: UUID) -> None:
        """A job has ended."""
        job = self._open.pop(run, None)
        if job is not None:
            self._decay()
            self._used[job.user] = self._used.get(job.user, 0.0) + _seconds(job)

    def keep(self, held: Collection[UUID]) -> None:
        """Forget jobs that have not started and are not in `held`: they have no slot here."""
        self._open = {
            run: job for run, job in self._open.items() if run in held or job.started is not None
        }

    def of_all(self) -> dict[str, float]:
        """Seconds of each user, on all hosts."""
        seconds = self._own()
        now = datetime.now(UTC)
        for report in self._others:
            share = self._share(max(0.0, (now - report.at).total_seconds()))
            for user, used in report.seconds.items():
                seconds[user] = seconds.get(user, 0.0) + used * share
        return seconds

    async def exchange(self, client: PrefectClient, pool: str, worker: str) -> None:
        """Report, and read the reports of other workers, every few seconds."""
        if time.monotonic() - self._exchanged < _INTERVAL:
            return
        found = values_as(await read_variables(client, USAGE_VARIABLES), UsageReport)
        reports = [report for _, report in found if report.pool == pool]
        own = next((each for each in reports if each.worker == worker), None)
        if own is not None and not self._is_known:
            share = self._share(max(0.0, (datetime.now(UTC) - own.at).total_seconds()))
            for user, used in own.seconds.items():  # from before this worker was restarted
                self._used[user] = self._used.get(user, 0.0) + used * share
        self._is_known = True
        self._others = [each for each in reports if each.worker != worker]
        self._exchanged = time.monotonic()
        report = _report(pool, worker, self._own())
        await put_variable(client, report.variable, report)

    def _own(self) -> dict[str, float]:
        self._decay()
        seconds = dict(self._used)
        for job in self._open.values():
            seconds[job.user] = seconds.get(job.user, 0.0) + _seconds(job)
        return seconds

    def _decay(self) -> None:
        now = time.monotonic()
        share = self._share(now - self._at)
        self._at = now
        self._used = {
            user: left for user, used in self._used.items() if (left := used * share) > _LEAST / 100
        }

    def _share(self, seconds: float) -> float:
        return 0.5 ** (seconds / self._half_life)


def _seconds(job: _Open) -> float:
    return _LEAST if job.started is None else max(_LEAST, time.monotonic() - job.started)


def _report(pool: str, worker: str, seconds: Mapping[str, float]) -> UsageReport:
    """A report that fits into a variable: it has the users who have used most."""
    kept: dict[str, float] = {}
    length = 300 + len(pool) + len(worker)
    for user, used in sorted(seconds.items(), key=lambda each: -each[1]):
        length += len(json.dumps(user)) + 20
        if length > _LONGEST:
            break
        kept[user] = round(used, 3)
    return UsageReport(pool=pool, worker=worker, seconds=kept, at=datetime.now(UTC))
