"""The supervisor's requests to the Prefect API."""

import asyncio
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import TypeAdapter, ValidationError

from tasks.contracts import (
    ATTEMPT_LABEL,
    DRAINED_LABEL,
    JOB_ID_LABEL,
    MOVES_LABEL,
    REQUEUE_OF_LABEL,
    REQUEUED_AS_LABEL,
    WORKER_LABEL,
    Queue,
    ResultsDirectory,
    attempt_tag,
    job_id,
    own_tags,
    requeue_key,
)
from tasks.prefect_api.clock import ServerClock
from tasks.prefect_api.pages import PAGE
from tasks.storage.results.interface import ResultsRoot

_AT_ONCE = 8  # requests in flight: SQLite answers one after the other anyway
_IN_ONE = 20  # runs created by one request: the server accepts 100, and locks SQLite meanwhile
_PAUSE = 0.15  # seconds between two such requests, in which other writers get the lock of SQLite
_NOT_FOUND = 404
_PAGE_OF_A_RUN = "/runs/flow-run/"  # in the UI
ACTIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


@dataclass(frozen=True)
class Successor:
    """A request to the server for the next attempt at a job."""

    of: FlowRun
    attempt: int
    reason: str
    """Why the attempt `of` crashed."""
    delay: float
    """Seconds until it is due."""
    most: int
    """Maximum of attempts at a job, moves included."""
    moves: int = 0
    """Attempts so far that ended because their host was drained: they count as no crash."""

    @property
    def key(self) -> str:
        """Idempotency key, the same for every supervisor."""
        return requeue_key(job_id(self.of.labels, self.of.id), self.attempt)

    def body(self, now: datetime) -> dict[str, Any]:
        """The body of the API request. `now`: by the server's clock."""
        run = self.of
        labels = {
            name: value
            for name, value in run.labels.items()
            if not name.startswith("prefect.") and name != DRAINED_LABEL
        }
        body: dict[str, Any] = {
            "name": run.name,
            "parameters": run.parameters,
            # The server accepted them for the first attempt; the job checks them itself.
            "enforce_parameter_schema": False,
            "tags": [*own_tags(run.tags), attempt_tag(self.attempt, self.most, self.reason)],
            "job_variables": run.job_variables or {},
            "work_queue_name": Queue.HIGH,
            "idempotency_key": self.key,
            "labels": labels
            | {
                JOB_ID_LABEL: str(job_id(run.labels, run.id)),
                ATTEMPT_LABEL: self.attempt,
                REQUEUE_OF_LABEL: str(run.id),
                **({MOVES_LABEL: self.moves} if self.moves else {}),
            },
        }
        if self.delay:
            due = now + timedelta(seconds=self.delay)
            body["state"] = {
                "type": "SCHEDULED",
                "state_details": {"scheduled_time": due.isoformat()},
            }
        return body


class Runs:
    """The flow runs of one pool."""

    def __init__(self, client: PrefectClient, pool: str, clock: ServerClock) -> None:
        self._client = client
        self._clock = clock
        self._pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def active(self) -> list[FlowRun]:
        """Every run that a worker has taken and that is not final."""
        return await self._all(FlowRunFilter(state=_of_type(ACTIVE)))

    async def crashed(self, since: datetime | None) -> list[FlowRun]:
        """Every run that crashed after `since`, None for ever, sorted by when it was due."""
        ended = since and FlowRunFilterEndTime.model_validate({"after_": since})
        found = await self._all(FlowRunFilter(state=_of_type([StateType.CRASHED]), end_time=ended))
        return sorted(found, key=lambda run: run.expected_start_time or _EVER)

    async def by_id(self, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
        """The runs of this pool with these ids, by id."""
        wanted = list(ids)
        found: dict[UUID, FlowRun] = {}
        for start in range(0, len(wanted), PAGE):
            page = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + PAGE]))
            found |= {run.id: run for run in await self._all(page)}
        return found

    async def by_key(self, keys: Iterable[str]) -> dict[str, FlowRun]:
        """The runs with these idempotency keys, by key."""
        wanted = list(keys)
        found: dict[str, FlowRun] = {}
        for start in range(0, len(wanted), PAGE):
            page = await self._client.read_flow_runs(
                # In any pool: the deployment may have moved to another one.
                flow_run_filter=FlowRunFilter(
                    idempotency_key=FlowRunFilterIdempotencyKey(any_=wanted[start : start + PAGE])
                ),
                limit=PAGE,
            )
            found |= {run.idempotency_key: run for run in page if run.idempotency_key}
        return found

    async def histories(self, runs: Sequence[FlowRun]) -> list[list[State]]:
        """All states of each run, oldest first; an empty list where a run has been deleted or has
        entered another state since it was read.

        The current state is the last one, whatever its date: Prefect dates a state by the request
        for it, and of two requests at about the same time may grant the earlier one last, such as
        that of a starting attempt for Running after that of a supervisor for Cancelled.
        """

        async def history(run: FlowRun) -> list[State]:
            async with self._gate:
                try:
                    states = await self._client.read_flow_run_states(run.id)
                except ObjectNotFound:
                    return []
            return sorted(states, key=lambda one: (one.id == run.state_id, one.timestamp))

        found = await asyncio.gather(*(history(run) for run in runs))
        current = {run.id: run.state_id for run in (await self.by_id(r.id for r in runs)).values()}
        return [
            states if run.state_id == current.get(run.id) else []
            for run, states in zip(runs, found, strict=True)
        ]

    async def exists(self, id: UUID) -> bool:
        """Whether the server has a run, in any pool."""
        try:
            await self._client.read_flow_run(id)
        except ObjectNotFound:
            return False
        return True

    async def state_type(self, id: UUID) -> StateType | None:
        """The type of a run's current state."""
        return (await self._client.read_flow_run(id)).state_type

    async def set_state(self, id: UUID, state: State, *, force: bool = False) -> None:
        """Propose a state; with `force`, set it whatever the current state is."""
        await self._client.set_flow_run_state(id, state, force=force)

    async def make(self, deployment: UUID, successors: Sequence[Successor]) -> None:
        """Request runs of one deployment. The caller looks up by key which were created."""
        for start in range(0, len(successors), _IN_ONE):
            await self._client.request(
                "POST",
                "/deployments/{id}/create_flow_run/bulk",  # pyright: ignore[reportArgumentType]  # in the REST API, but not in the client's list
                path_params={"id": deployment},
                json=[one.body(self._clock.now()) for one in successors[start : start + _IN_ONE]],
            )
            await asyncio.sleep(_PAUSE)

    async def make_one(self, successor: Successor) -> None:
        """Request one run."""
        await self._client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": successor.of.deployment_id},
            json=successor.body(self._clock.now()),
        )

    async def label_successor(self, id: UUID, successor: UUID) -> None:
        """Label a crashed run with its successor's id, so that it is known if that is deleted."""
        await self._label(id, REQUEUED_AS_LABEL, str(successor))

    async def label_drained(self, id: UUID, host: str) -> None:
        """Label a run that is ended because its host is drained."""
        await self._label(id, DRAINED_LABEL, host)

    async def _label(self, id: UUID, name: str, value: str) -> None:
        try:
            await self._client.update_flow_run_labels(id, {name: value})
        except PrefectHTTPStatusError as error:
            if error.response.status_code != _NOT_FOUND:  # deleted meanwhile
                raise

    async def link(self, successor: Successor, id: UUID) -> None:
        """Create artifacts with links between a crashed run and its successor, whose id is `id`."""
        of, number, most = successor.of, successor.attempt, successor.most
        reason = "`" + successor.reason.replace("`", "'") + "`"
        first = job_id(of.labels, of.id)
        back = f"[attempt {number - 1}]({_PAGE_OF_A_RUN}{of.id})"
        if first != of.id:
            back += f"; the first was [attempt 1]({_PAGE_OF_A_RUN}{first})"
        texts = {
            of.id: f"Attempt {number - 1} of {most} crashed: {reason}. "
            f"The next attempt: [attempt {number}]({_PAGE_OF_A_RUN}{id}).",
            id: f"Attempt {number} of {most}, after: {reason}. Before it: {back}.",
        }
        for run, text in texts.items():
            await self._client.create_artifact(
                ArtifactCreate(
                    type="markdown", flow_run_id=run, data=text, description=successor.reason
                )
            )

    async def log(self, lines: dict[UUID, str]) -> None:
        """Add a line to the log of each run."""
        now = datetime.now(UTC).isoformat()
        await self._client.create_logs(
            {
                "name": "prefecture.supervisor",
                "level": logging.WARNING,
                "message": line,
                "timestamp": now,
                "flow_run_id": str(id),
            }
            for id, line in lines.items()
        )

    async def _all(self, wanted: FlowRunFilter) -> list[FlowRun]:
        found: dict[UUID, FlowRun] = {}
        for offset in range(0, sys.maxsize, PAGE):
            page = await self._client.read_flow_runs(
                work_pool_filter=self._pool,
                flow_run_filter=wanted,
                sort=FlowRunSort.ID_DESC,  # does not change between two pages
                limit=PAGE,
                offset=offset,
            )
            found |= {run.id: run for run in page}
            if len(page) < PAGE:
                break
        return list(found.values())


_EVER = datetime.min.replace(tzinfo=UTC)


def worker_of(run: FlowRun) -> str | None:
    """The worker that took a run; None where the run has no worker's label yet."""
    name = run.labels.get(WORKER_LABEL)
    return str(name) if name else None  # empty where the run was put back in its queue


def stands_result(results: ResultsRoot, run: FlowRun) -> bool:
    """Whether the result of a run's job is published. False where its results directory is invalid:
    the attempt may have crashed before it checked its parameters."""
    try:
        directory = TypeAdapter[str](ResultsDirectory).validate_python(
            run.parameters.get("results_directory")
        )
    except ValidationError:
        return False
    return results.is_published(directory, job_id(run.labels, run.id))


def _of_type(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
