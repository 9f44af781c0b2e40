"""The events of jobs and agents: their schemas, and the functions that emit them.

All events of a job have the resource `prefecture.job.<job id>`:

    prefecture.job.received    the job was accepted
    prefecture.job.started     an attempt has begun; once more where it was put back in its queue
    prefecture.job.progress    share of the work that is done, where the task reports it
    prefecture.job.completed   the result is published                      \
    prefecture.job.failed      with the reason in one line                   one of these, once
    prefecture.job.cancelled                                                /
    prefecture.notification.undelivered   a subscriber could not be notified
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID, uuid4, uuid5

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts import AgentReport, job_id, own_tags
from tasks.errors import in_short
from tasks.reporting import reports_to_server

AGENT_HEALTHY = "prefecture.agent.healthy"
AGENT_UNHEALTHY = "prefecture.agent.unhealthy"
HOST_EMPTIED = "prefecture.agent.drained"
JOB_RESOURCE = "prefecture.job."
_ROLE = "prefect.resource.role"
_AT_ONCE = 50  # events in one request
_MOST_TAGS = 50  # in an event: the server refuses over 100 related resources


class JobEvent(BaseModel):
    """Base of the events of a job. `version` changes when a field changes its meaning."""

    model_config = ConfigDict(frozen=True)

    name_of_event: ClassVar[str]

    version: Literal[1] = 1
    job: UUID
    task: str
    """The compute task, such as compress-images."""
    name: str
    """Name of the flow run: made by Prefect, or chosen by the user."""
    results_directory: str
    tags: list[str] = []

    @property
    def event_id(self) -> UUID:
        """The id of this event, the same for every sender and every repetition."""
        return uuid5(self.job, self.name_of_event)


class JobReceived(JobEvent):
    """A job was accepted."""

    name_of_event = "prefecture.job.received"

    queue: str


class JobStarted(JobEvent):
    """An attempt at a job has begun."""

    name_of_event = "prefecture.job.started"

    attempt: int
    flow_run: UUID


class JobProgress(JobEvent):
    """Progress of an attempt."""

    name_of_event = "prefecture.job.progress"

    attempt: int
    fraction: float
    """Share of the work that is done, 0 to 1."""
    text: str


class JobEnded(JobEvent):
    """Base of the final events of a job. Final, unless a user retries its flow run in the UI."""

    ended: datetime
    revision: int = 1
    """Number of this final state of the job: 2 where it failed and was retried in the UI."""
    attempts: int
    waited: float
    """Seconds in a queue before the first attempt started."""
    ran: float
    """Seconds that its attempts ran, all together."""

    @property
    def event_id(self) -> UUID:
        """The id of this event, one for each final state."""
        suffix = "" if self.revision == 1 else f":{self.revision}"
        return uuid5(self.job, f"{self.name_of_event}{suffix}")


class JobCompleted(JobEnded):
    """A job has completed: its result is published."""

    name_of_event = "prefecture.job.completed"

    outcome: Literal["completed"] = "completed"
    location: str
    files: int
    bytes: int


class JobFailed(JobEnded):
    """A job has failed and is not retried."""

    name_of_event = "prefecture.job.failed"

    outcome: Literal["failed"] = "failed"
    reason: str
    """One line that says what to change."""


class JobCancelled(JobEnded):
    """A job was cancelled."""

    name_of_event = "prefecture.job.cancelled"

    outcome: Literal["cancelled"] = "cancelled"
    reason: str


class NotificationUndelivered(JobEvent):
    """A notification of a final event could not be delivered, and is given up."""

    name_of_event = "prefecture.notification.undelivered"

    subscriber: str
    attempts: int
    reason: str
    """Why the last attempt failed, in one line."""
    revision: int = 1
    """Number of the final state that the notification is about."""

    @property
    def event_id(self) -> UUID:
        """The id of this event, one for each subscriber and final state."""
        suffix = "" if self.revision == 1 else f":{self.revision}"
        return uuid5(self.job, f"{self.name_of_event}:{self.subscriber}{suffix}")


Ended = Annotated[JobCompleted | JobFailed | JobCancelled, Field(discriminator="outcome")]
"""The type of a final event, for conversion to and from JSON."""

ENDINGS = (
    JobCompleted.name_of_event,
    JobFailed.name_of_event,
    JobCancelled.name_of_event,
)
"""The names of the final events."""


def agent_reported(report: AgentReport) -> None:
    """Emit the health of a host: healthy, or unhealthy with the failing checks."""
    _emit(AGENT_UNHEALTHY if report.failed else AGENT_HEALTHY, report)


def host_emptied(report: AgentReport) -> None:
    """Emit that a host which is drained runs no job any more."""
    _emit(HOST_EMPTIED, report)


def _emit(name: str, report: AgentReport) -> None:
    emit_event(
        name,
        resource={
            "prefect.resource.id": f"prefecture.agent.{report.worker}",
            "prefect.resource.name": report.host,
        },
        payload=report.model_dump(mode="json"),
    )


def about(run: FlowRun, task: str) -> dict[str, Any]:
    """Return the fields of JobEvent, read from one of the job's flow runs."""
    return {
        "job": job_id(run.labels, run.id),
        "task": task,
        "name": run.name,
        # Not validated yet: it may be of any type, or missing.
        "results_directory": str(run.parameters.get("results_directory", "")),
        "tags": own_tags(run.tags)[:_MOST_TAGS],
    }


async def job_moved(event: JobEvent, run: FlowRun) -> None:
    """Send an event of the attempt `run` from within it. Where the server does not take it, the
    event is lost, with a line in the log: nothing relies on it.

    Not by `emit_event`: in each job it would open a websocket, and read the flow, the deployment,
    the work queue and the work pool from the server, to name them in the event.

    The event has a random id, not `event_id`: a run that was put back in its queue sends the event
    a second time, and an id that comes twice makes Prefect's writer of events fail (see `known`).
    """
    if not reports_to_server():
        return
    related = [{"prefect.resource.id": f"prefect.flow.{run.flow_id}", _ROLE: "flow"}]
    if run.deployment_id is not None:
        id = f"prefect.deployment.{run.deployment_id}"
        related.append({"prefect.resource.id": id, _ROLE: "deployment"})
    sent = _prefect_event(event, uuid4(), run.id, datetime.now(UTC), related)
    try:
        async with get_client() as client:
            await _post(client, [sent])
    except httpx.HTTPError as error:
        get_run_logger().warning("%s was not sent: %s", event.name_of_event, in_short(error))


async def known(client: PrefectClient, ids: Iterable[UUID]) -> set[UUID]:
    """Return the ids of those events that the server has stored, which it does every 5 s.

    Call this before an event is sent a second time. On SQLite, events that are stored already make
    the server's writer fail, and after five failures it drops its whole queue of events, those of
    other senders too.
    """
    wanted = list(ids)
    found: set[UUID] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        which = EventFilter(id=EventIDFilter(id=wanted[start : start + _AT_ONCE]))
        found |= {event.id for event in (await client.read_events(which, _AT_ONCE)).events}
    return found


async def send_events(
    client: PrefectClient, events: Iterable[tuple[JobEvent, UUID, datetime]]
) -> None:
    """Send events from outside a flow run, and wait until the server has accepted them.

    Each event comes with the id of its flow run and the time when it occurred. Repeat an event only
    where it is not `known` some seconds later.
    """
    sent = [
        _prefect_event(event, event.event_id, flow_run, occurred)
        for event, flow_run, occurred in events
    ]
    for start in range(0, len(sent), _AT_ONCE):
        await _post(client, sent[start : start + _AT_ONCE])


async def _post(client: PrefectClient, events: Iterable[Event]) -> None:
    # Not by the websocket, which does not confirm events.
    await client.request("POST", "/events", json=[e.model_dump(mode="json") for e in events])


def _prefect_event(
    event: JobEvent, id: UUID, flow_run: UUID, occurred: datetime, more: Iterable[Any] = ()
) -> Event:
    """Make an event with related resources as Prefect adds them within a flow run, and `more`."""
    related = [
        {
            "prefect.resource.id": f"prefect.flow-run.{flow_run}",
            _ROLE: "flow-run",
            "prefect.resource.name": event.name,
        },
        *more,
        *({"prefect.resource.id": f"prefect.tag.{tag}", _ROLE: "tag"} for tag in event.tags),
    ]
    return Event.model_validate(
        {
            "id": id,
            "event": event.name_of_event,
            "occurred": occurred,
            "resource": _resource(event),
            "related": related,
            "payload": event.model_dump(mode="json"),
        }
    )


def _resource(event: JobEvent) -> dict[str, Any]:
    return {
        "prefect.resource.id": f"{JOB_RESOURCE}{event.job}",
        "prefect.resource.name": event.name,
        "prefecture.task": event.task,
        "prefecture.results_directory": event.results_directory,
    }
