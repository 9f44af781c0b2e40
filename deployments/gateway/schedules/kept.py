"""The schedules of all users, in a file of the home."""

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from deployments.gateway.requests import JobFields
from deployments.gateway.users.home_list import HomeList
from tasks.contracts import USER_TAG
from tasks.errors import InvalidPayload, PrefectureError

FILE = "schedules.json"
"""The file's name in a home."""
SCHEDULE_TAG = "schedule:"
"""Begins the tag of the jobs of a schedule; its name follows."""


class Failure(BaseModel, frozen=True):
    """Why the job of a due time was not submitted."""

    due: datetime
    reason: str
    """In one line."""
    since: datetime | None = None
    """The first of the due times, one after the other, that had no job for this reason."""

    @classmethod
    def after(cls, before: "Failure | None", due: datetime, reason: str) -> "Failure":
        """The failure of a due time. `before`: that of the due time before."""
        since = due
        if before is not None and before.reason == reason:
            since = before.since or before.due
        return cls(due=due, reason=reason, since=since)


class Work(JobFields):
    """The job that a schedule submits."""

    payload: dict[str, Any]


class Schedule(BaseModel, frozen=True):
    """A schedule of a user."""

    id: UUID
    user: str
    token: str
    """The id of the token that it was created, or resumed, with."""
    name: str
    """Also that of its jobs; of each user, one schedule has it."""
    work: Work
    cron: str
    timezone: str
    active: bool = True
    created: datetime
    done: datetime
    """Up to when its due times are dealt with."""
    failure: Failure | None = None
    """None where the last job was submitted."""

    @property
    def tags(self) -> tuple[str, str]:
        """The tags of its jobs: their user's, and its own."""
        return f"{USER_TAG}{self.user}", f"{SCHEDULE_TAG}{self.name}"

    def key(self, due: datetime) -> str:
        """The key of the job of a due time, which is submitted once with it."""
        return f"schedule:{self.id}:{due:%Y-%m-%dT%H:%MZ}"

    def is_same_as(self, other: "Schedule") -> bool:
        """Whether another one submits the same jobs at the same times."""
        mine, theirs = (
            (each.user, each.name, each.work.model_dump(), each.cron, each.timezone)
            for each in (self, other)
        )
        return mine == theirs


class Schedules:
    """The schedules of a home. Programs that read them see a change at once.

    `most`: how many a user may have.
    """

    def __init__(self, home: Path, most: int = 0) -> None:
        self._most = most
        self._kept = HomeList(
            home,
            FILE,
            TypeAdapter(list[Schedule]),
            "restore it, or remove it, and users create their schedules again",
        )

    def all(self) -> list[Schedule]:
        """All schedules, the oldest first."""
        return list(self._kept.read())

    def find(self, id: UUID) -> Schedule | None:
        """The schedule with an id."""
        return next((each for each in self._kept.read() if each.id == id), None)

    def add(self, new: Schedule) -> Schedule:
        """Add a schedule. Returns it, or the same one that the user has already: a request may be
        repeated whose answer was lost.

        Raises InvalidPayload where its name is taken, PrefectureError where the user has too many.
        """
        with self._kept.changing():
            kept = self.all()
            own = [each for each in kept if each.user == new.user]
            for each in own:
                if each.is_same_as(new):
                    return each
                if each.name == new.name:
                    raise InvalidPayload(
                        f"name: there is a schedule '{new.name}' already: choose another name, or "
                        "remove it first"
                    )
            if len(own) >= self._most:
                raise PrefectureError(
                    f"user '{new.user}' has {len(own):,} schedules, and {self._most:,} may be: "
                    "remove one first"
                )
            self._kept.write([*kept, new])
        return new

    def change(self, changes: Mapping[UUID, Mapping[str, Any]]) -> None:
        """Change fields of schedules, by their ids. Those that were removed meanwhile stay so."""
        with self._kept.changing():
            self._kept.write(
                [each.model_copy(update=dict(changes.get(each.id, {}))) for each in self.all()]
            )

    def remove(self, ids: Collection[UUID]) -> None:
        """Remove schedules."""
        with self._kept.changing():
            self._kept.write([each for each in self.all() if each.id not in ids])
