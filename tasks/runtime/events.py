"""The only place that emits events, with what each says; who listens is none of our business.

A job's whole story stands under one resource, `prefecture.job.<job id>`:

    prefecture.job.received    it was accepted
    prefecture.job.started     an attempt has begun; again where it was put back in its queue
    prefecture.job.progress    how far an attempt is, where its task can tell
    prefecture.job.completed   the manifest stands                          \
    prefecture.job.failed      with the reason in one line                   one of these, once
    prefecture.job.cancelled                                                /
    prefecture.notification.undelivered   a subscriber could not be told of that
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID, uuid5

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts import AgentReport, job_id, own_tags
from tasks.reporting import reports_to_server

AGENT_HEALTHY = "prefecture.agent.healthy"
AGENT_UNHEALTHY = "prefecture.agent.unhealthy"
JOB_RESOURCE = "prefecture.job."
_AT_ONCE = 50  # events in one request
_MOST_TAGS = 50  # of a job are told: the server takes no event with over 100 related resources


class JobEvent(BaseModel):
    """What every event of a job says. `version` changes when a field changes its meaning."""

    model_config = ConfigDict(frozen=True)

    name_of_event: ClassVar[str]

    version: Literal[1] = 1
    job: UUID
    task: str
    """The compute task, such as compress-images."""
    name: str
    """Of the flow run: Prefect's own, or what the user called it."""
    results_directory: str
    tags: list[str] = []

    @property
    def event_id(self) -> UUID:
        """The same however often it is told, by whomever."""
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
    """How far an attempt is."""

    name_of_event = "prefecture.job.progress"

    attempt: int
    fraction: float
    """Share of the work that is done, 0 to 1."""
    text: str


class JobEnded(JobEvent):
    """A job has ended: for good, unless a person retries its flow run in Prefect's UI."""

    ended: datetime
    revision: int = 1
    """Which final state of the job this is: 2 where it has failed, and was retried in the UI."""
    attempts: int
    waited: float
    """Seconds in a queue before the first attempt was started."""
    ran: float
    """Seconds that its attempts ran, all together."""

    @property
    def event_id(self) -> UUID:
        """One for each final state."""
        again = "" if self.revision == 1 else f":{self.revision}"
        return uuid5(self.job, f"{self.name_of_event}{again}")


class JobCompleted(JobEnded):
    """A job's result stands: its manifest is there."""

    name_of_event = "prefecture.job.completed"

    outcome: Literal["completed"] = "completed"
    location: str
    files: int
    bytes: int


class JobFailed(JobEnded):
    """A job has failed, and will not be tried again."""

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
    """A subscriber could not be told of a job's end, and will not be."""

    name_of_event = "prefecture.notification.undelivered"

    subscriber: str
    attempts: int
    reason: str
    """Why the last attempt failed, in one line."""
    revision: int = 1
    """Of the job's end."""

    @property
    def event_id(self) -> UUID:
        """One for each subscriber and final state."""
        again = "" if self.revision == 1 else f":{self.revision}"
        return uuid5(self.job, f"{self.name_of_event}:{self.subscriber}{again}")


Ended = Annotated[JobCompleted | JobFailed | JobCancelled, Field(discriminator="outcome")]
"""The end of a job, as JSON or from it."""

ENDINGS = (
    JobCompleted.name_of_event,
    JobFailed.name_of_event,
    JobCancelled.name_of_event,
)


def agent_reported(report: AgentReport) -> None:
    """Tell how a host is: healthy, or unhealthy with the checks that fail."""
    emit_event(
        AGENT_UNHEALTHY if report.failed else AGENT_HEALTHY,
        resource={
            "prefect.resource.id": f"prefecture.agent.{report.worker}",
            "prefect.resource.name": report.host,
        },
        payload=report.model_dump(mode="json"),
    )


def about(run: FlowRun, task: str) -> dict[str, Any]:
    """What every event of a job says, read off one of its flow runs."""
    return {
        "job": job_id(run.labels, run.id),
        "task": task,
        "name": run.name,
        # Checked by the job itself: it may be anything, or missing.
        "results_directory": str(run.parameters.get("results_directory", "")),
        "tags": own_tags(run.tags)[:_MOST_TAGS],
    }


def job_moved(event: JobEvent) -> None:
    """Emit an event from within a job's flow run, which Prefect names beside it. Does not wait.

    Its id is a new one: a run that was put back in its queue runs again, under the same id as
    before, and an id that comes twice makes Prefect's writer of events fail (see `known`).
    """
    if not reports_to_server():
        return
    emit_event(
        event.name_of_event, resource=_resource(event), payload=event.model_dump(mode="json")
    )


async def known(client: PrefectClient, ids: Iterable[UUID]) -> set[UUID]:
    """Those of the events that the server has written down, which it does every five seconds.

    To be asked before an event is sent a second time. On SQLite, a batch of events that the server
    has already makes its writer fail, and after five failures everything in the queue is dropped:
    the events of others, too.
    """
    wanted = list(ids)
    found: set[UUID] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        which = EventFilter(id=EventIDFilter(id=wanted[start : start + _AT_ONCE]))
        found |= {event.id for event in (await client.read_events(which, _AT_ONCE)).events}
    return found


async def tell(client: PrefectClient, events: Iterable[tuple[JobEvent, UUID, datetime]]) -> None:
    """Tell of jobs from outside, and wait until the server has heard.

    With each event the flow run that it is about, and when it happened. To be told again only where
    it is not `known` some seconds later.
    """
    told = [_outside(event, flow_run, occurred) for event, flow_run, occurred in events]
    for start in range(0, len(told), _AT_ONCE):
        # Not the websocket, which does not say what has arrived.
        await client.request(
            "POST",
            "/events",
            json=[event.model_dump(mode="json") for event in told[start : start + _AT_ONCE]],
        )


def _outside(event: JobEvent, flow_run: UUID, occurred: datetime) -> Event:
    """An event with what Prefect names beside one that is told from within a flow run."""
    related = [
        {
            "prefect.resource.id": f"prefect.flow-run.{flow_run}",
            "prefect.resource.role": "flow-run",
            "prefect.resource.name": event.name,
        },
        *(
            {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
            for tag in event.tags
        ),
    ]
    return Event.model_validate(
        {
            "id": event.event_id,
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
