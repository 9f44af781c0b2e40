"""Goes through the jobs of a selection in pieces, and goes on where an earlier walk has stopped."""

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from deployments.jobs.queries.listing import job_runs
from deployments.jobs.queries.places import TOP, Place
from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import RESTART_KEY
from deployments.jobs.request import cut
from tasks.contracts import job_id
from tasks.errors import InvalidPayload

_MARK = 32  # characters


@dataclass(frozen=True)
class Walk:
    """How far an action on a selection has come. As text it is the `next` of an answer."""

    mark: str
    """Its own name. The jobs that it restarts have it in their keys, and it skips them."""
    place: Place = TOP

    @classmethod
    def begin(cls) -> Self:
        """A walk that has reached no job yet."""
        return cls(uuid4().hex)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a walk. Raises InvalidPayload."""
        mark, _, place = text.partition(".")
        try:
            if len(mark) != _MARK or not mark.isalnum():
                raise InvalidPayload("it has no mark")
            return cls(mark, Place.parse(place))
        except InvalidPayload:
            raise InvalidPayload(f"next: {cut(text)!r} is no `next` of an answer") from None

    def __str__(self) -> str:
        """The walk as text, in ASCII."""
        return f"{self.mark}.{self.place}"

    def beyond(self, runs: Iterable[FlowRun]) -> "Walk":
        """The walk that has reached these runs, too."""
        place = self.place
        for run in runs:
            place = place.reached(run)
        return replace(self, place=place)

    async def piece(
        self, client: PrefectClient, selection: Selection, most: int, *, oldest_first: bool
    ) -> "tuple[list[FlowRun], Walk | None]":
        """The next decisive runs, `most` at most, one of each job, and the walk beyond them; None
        at the end."""
        found: dict[UUID, FlowRun] = {}
        place = self.place
        own = f"{RESTART_KEY}{self.mark}:"
        runs = job_runs(client, selection, most + 1, place, oldest_first=oldest_first)
        async with aclosing(runs):
            async for run in runs:
                if len(found) == most:
                    return [*found.values()], replace(self, place=place)
                place = place.reached(run)
                if not (run.idempotency_key or "").startswith(own):
                    found.setdefault(job_id(run.labels, run.id), run)
        return [*found.values()], None
