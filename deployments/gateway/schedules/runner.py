"""Submits the jobs of schedules when they are due.

Each due time has one job: its key is made of the schedule and the time, so the server has it once,
also where the gateway dies before it has noted that, or two gateways submit it.
"""

import asyncio
import fcntl
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI, HTTPException
from prefect.client.orchestration import PrefectClient

from deployments.gateway.jobs import rights_of
from deployments.gateway.quotas import Quota
from deployments.gateway.schedules.cron import newest_time, next_times
from deployments.gateway.schedules.kept import Failure, Schedule, Schedules
from deployments.gateway.secret_names import check_secrets
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.users.access import Caller
from deployments.gateway.users.audit import AuditLog
from deployments.gateway.users.tokens import Scope, Token, Tokens
from deployments.jobs.dependencies.after import Rights
from deployments.jobs.submit import find_submitted, submit
from tasks.errors import (
    NotAdmitted,
    OperatorError,
    PrefectureError,
    ServerUnavailable,
    StorageUnavailable,
    in_short,
)
from tasks.settings import Settings, make_home

LATEST = timedelta(days=1)
"""How late a job may be submitted, where the gateway or the server was away at its time."""
_LOOK = 1.0  # seconds between two looks at the schedules
_PAUSE = 5.0  # seconds before the next look, where the server is away
_AT_ONCE = 8  # jobs that are submitted at the same time
_SILENT = (httpx.TransportError, ServerUnavailable)
_AWAY = (httpx.HTTPError, ServerUnavailable, StorageUnavailable, OperatorError)
_CREATED, _REFUSED = 201, 422
_ACTION = "run_schedule"
_log = logging.getLogger(__name__)

_Due = tuple[Schedule, datetime]


class Runner:
    """Submits what is due, in one gateway of a home at a time."""

    def __init__(
        self, app: FastAPI, client: PrefectClient, home: Path, tokens: Tokens, audit: AuditLog
    ) -> None:
        self._client = client
        self._home = home
        self._tokens = tokens
        self._audit = audit
        self._kept: Schedules = app.state.schedules
        self._quota: Quota = app.state.quota
        self._uploads: Uploads = app.state.uploads
        self._settings: Settings = app.state.settings
        self._next: dict[tuple[UUID, datetime], datetime | None] = {}

    async def run(self) -> None:
        """Submit what is due, until cancelled. An error is logged, once while it is the same."""
        said, leads = "", False
        with ExitStack() as stack:
            while True:
                reason = ""
                try:
                    leads = leads or self._is_leader(stack)
                    if leads:
                        await self.look()
                except Exception as error:  # noqa: BLE001  # logged and retried: the loop must not end
                    reason = in_short(error)
                if reason not in ("", said):
                    _log.warning("jobs of schedules are not submitted now: %s", reason)
                said = reason
                await asyncio.sleep(_PAUSE if reason else _LOOK)

    async def look(self) -> None:
        """Submit what is due now. Raises an error where the server, or S3, is away: what was not
        submitted is due at the next look."""
        now = datetime.now(UTC)
        due = [(each, at) for each in self._kept.all() if (at := await self._due(each, now))]
        due.sort(key=lambda each: each[1])
        errors: list[BaseException] = []
        for begin in range(0, len(due), _AT_ONCE):
            errors += await self._submit_all(due[begin : begin + _AT_ONCE], now)
            if any(isinstance(error, _SILENT) for error in errors):
                break  # the others would fail in the same way
        for error in errors:
            raise error

    def _is_leader(self, stack: ExitStack) -> bool:
        """Take the lock of the home, which the system frees when this process dies. Without it two
        gateways would meet a quota with the same job."""
        make_home(self._home)
        file = (self._home / "schedules.runner.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        stack.enter_context(file)
        return True

    async def _due(self, schedule: Schedule, now: datetime) -> datetime | None:
        """The newest time that has come and is not dealt with; None where there is none."""
        if not schedule.active:
            return None
        known = (schedule.id, schedule.done)
        if known not in self._next:
            times = await next_times(schedule.cron, schedule.timezone, schedule.done, 1)
            self._next = {each: at for each, at in self._next.items() if each[0] != schedule.id}
            self._next[known] = times[0] if times else None
        first = self._next[known]
        if first is None or first > now:
            return None
        # Of all times that were missed, only the newest has a job.
        since = max(schedule.done, now - LATEST)
        return await newest_time(schedule.cron, schedule.timezone, since, now) or first

    async def _submit_all(self, due: Sequence[_Due], now: datetime) -> list[BaseException]:
        """Submit jobs, and note which are dealt with, all in one. Returns the errors of others."""
        outcomes = await asyncio.gather(
            *(self._submit_one(*each, now) for each in due), return_exceptions=True
        )
        changes: dict[UUID, dict[str, Any]] = {}
        for (schedule, at), outcome in zip(due, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                failure = Failure.after(schedule.failure, at, outcome) if outcome else None
                changes[schedule.id] = {"done": now, "failure": failure}
        if changes:
            self._kept.change(changes)
        return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]

    async def _submit_one(self, schedule: Schedule, due: datetime, now: datetime) -> str:
        """Submit a job. Returns why it was refused; empty where it was not. Raises an error where
        the server, or S3, is away."""
        if now - due > LATEST:
            return "it was missed: the gateway, or the Prefect server, was away for more than a day"
        try:
            caller = Caller(self._token(schedule), "", self._audit, _ACTION)
        except NotAdmitted as error:
            return str(error)
        try:
            job = await self._submit(caller, schedule, due)
        except _AWAY:
            raise
        except HTTPException as refused:  # which has a line in the audit log
            reason = str(refused.detail)
        except PrefectureError as error:
            reason = str(error)
            caller.record(_REFUSED, schedule=schedule.id, reason=reason)
        else:
            caller.record(_CREATED, job, schedule=schedule.id)
            return ""
        # It may have been submitted before this gateway was killed: then that is no refusal.
        rights = self._rights(caller)
        was_submitted = await find_submitted(self._client, schedule.key(due), rights)
        return "" if was_submitted else reason

    async def _submit(self, caller: Caller, schedule: Schedule, due: datetime) -> UUID:
        client, payload = self._client, schedule.work.payload
        terms = schedule.work.terms(caller.token)
        await check_secrets(client, caller, [payload])
        await self._quota.check(client, caller, 1, key=False)
        return await submit(client, terms, payload, schedule.key(due), self._rights(caller))

    def _rights(self, caller: Caller) -> Rights:
        return rights_of(self._client, caller, self._uploads, self._settings)

    def _token(self, schedule: Schedule) -> Token:
        """The token that a schedule was created with or, where that has expired, the newest one of
        its user. Raises NotAdmitted where it was revoked: who has stolen a token must not go on
        with what it has created."""
        own = [each for each in self._tokens.all() if each.user == schedule.user]
        if schedule.token not in (each.id for each in own):
            raise NotAdmitted(
                "the token that created the schedule is revoked: pause the schedule, and resume it "
                "with another one"
            )
        good = [each for each in own if not each.is_expired and each.allows(Scope.SUBMIT)]
        if not good:
            raise NotAdmitted(
                f"the tokens of user '{schedule.user}' have expired: ask the operator for one"
            )
        return next((each for each in good if each.id == schedule.token), good[-1])
