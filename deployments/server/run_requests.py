"""What a run may ask of the API: about itself, and of its helpers.

Each rule is a method, a pattern of paths, and what must be so. What has no rule is refused.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, unquote
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter

from tasks.contracts import IMAGE_LABEL, RESULT_BLOCK, UNTIL_LABEL, job_id
from tasks.runtime.events import JOB_RESOURCE, JobProgress, JobStarted

_HELPERS = "sum-files/parts"  # the deployment of an average-files job's helpers
_LABELS = {IMAGE_LABEL, UNTIL_LABEL}  # that a task sets at its own run
_CHANGES = {
    "flow_version",
    "empirical_policy",
}  # that Prefect's engine makes at its run; not its job variables
_EVENTS = {JobStarted.name_of_event, JobProgress.name_of_event}
_RESOURCE = "prefect.resource.id"
_FLOW_RUN = "prefect.flow-run."  # before a run's id
_TASK_RUN = "prefect.task-run."  # before a task run's id, and before the name of its state
_REGISTRY = "docker-registry-credentials"
_SECRET = "secret"
_ID = "[0-9a-f-]{36}"


@dataclass(frozen=True)
class Run:
    """A flow run that has a token."""

    id: UUID
    flow: UUID
    deployment: UUID | None
    queue: str | None
    queue_id: UUID | None
    pool: str | None
    labels: Mapping[str, Any]
    parameters: Mapping[str, Any]
    job_variables: Mapping[str, Any]
    credentials: str | None
    """The block with which its pool's jobs use S3, as `type/name`."""

    @property
    def job(self) -> UUID:
        """The id of its job."""
        return job_id(dict(self.labels), self.id)


@dataclass(frozen=True)
class Request:
    """A request with the token of a run."""

    method: str
    path: str
    """Below /api."""
    query: str
    body: bytes


class Lookup(Protocol):
    """What the server knows of things that are not the run itself."""

    async def owner_of_artifact(self, id: UUID) -> UUID | None:
        """The flow run of an artifact."""
        ...

    async def key_of_run(self, id: UUID) -> str | None:
        """The idempotency key of a flow run."""
        ...

    async def run_of_task_run(self, id: UUID) -> UUID | None:
        """The flow run of a task run; None where the task run is not known yet."""
        ...

    async def name_of_block(self, id: UUID) -> str | None:
        """The name of a block document."""
        ...

    async def deployment_named(self, name: str) -> UUID | None:
        """The id of a deployment, by its flow's name and its own, as `flow/deployment`."""
        ...


class _OfRun(BaseModel):
    flow_run_id: UUID


class _Event(BaseModel):
    event: str
    resource: dict[str, str]
    related: list[dict[str, str]] = []

    @property
    def about(self) -> str:
        """The id of what it is about."""
        return self.resource.get(_RESOURCE, "")


class _NewHelper(BaseModel):
    idempotency_key: str
    job_variables: dict[str, Any] | None = None
    work_queue_name: str | None = None
    labels: dict[str, Any] | None = None


class _AnyOf(BaseModel):
    any_: list[UUID] = Field(min_length=1)


class _OnlyRuns(BaseModel):
    """A filter that names runs. All else that is in it can only narrow it."""

    operator: Literal["and_"] = "and_"
    id: _AnyOf


class _OnlyArtifacts(BaseModel):
    operator: Literal["and_"] = "and_"
    flow_run_id: _AnyOf


class _FindRuns(BaseModel):
    flow_runs: _OnlyRuns


class _FindArtifacts(BaseModel):
    artifacts: _OnlyArtifacts


class _Payload(BaseModel):
    registry_credentials: str | None = None
    secrets: list[str] = []


_object = TypeAdapter(dict[str, Any])
_of_runs = TypeAdapter(list[_OfRun])
_events = TypeAdapter(list[_Event])


@dataclass(frozen=True)
class _Asked:
    run: Run
    request: Request
    lookup: Lookup
    groups: tuple[str, ...]


_Rule = Callable[[_Asked], Awaitable[bool]]


async def is_allowed(run: Run, request: Request, lookup: Lookup) -> bool:
    """Whether a run may make a request.

    Raises ValueError where the path or the body is not what the API takes.
    """
    for method, path, rule in _RULES:
        found = re.fullmatch(path, request.path)
        if method == request.method and found:
            return await rule(_Asked(run, request, lookup, found.groups()))
    return False


async def is_own_event(run: UUID, text: str, lookup: Lookup) -> bool:
    """Whether what Prefect's engine sends by a websocket is an event of a run's tasks."""
    try:
        event = _Event.model_validate_json(text)
        task_run = UUID(event.about.removeprefix(_TASK_RUN))
    except ValueError:
        return False
    # Prefect's recorder takes the run of a task run from what is related.
    runs = {id for one in event.related if (id := one.get(_RESOURCE, "")).startswith(_FLOW_RUN)}
    return (
        event.event.startswith(_TASK_RUN)
        and runs == {f"{_FLOW_RUN}{run}"}
        and await lookup.run_of_task_run(task_run) in (None, run)
    )


async def _any(_: _Asked) -> bool:
    return True


async def _itself(asked: _Asked) -> bool:
    return UUID(asked.groups[0]) == asked.run.id


async def _itself_or_helper(asked: _Asked) -> bool:
    return await _itself(asked) or await _is_helper(asked, UUID(asked.groups[0]))


async def _own_flow(asked: _Asked) -> bool:
    return UUID(asked.groups[0]) == asked.run.flow


async def _own_deployment(asked: _Asked) -> bool:
    return UUID(asked.groups[0]) == asked.run.deployment


async def _own_queue(asked: _Asked) -> bool:
    return UUID(asked.groups[0]) == asked.run.queue_id


async def _own_pool(asked: _Asked) -> bool:
    return asked.groups[0] == asked.run.pool


async def _own_history(asked: _Asked) -> bool:
    ids = parse_qs(asked.request.query).get("flow_run_id", [])
    return [UUID(id) for id in ids] == [asked.run.id]


async def _small_change(asked: _Asked) -> bool:
    return await _itself(asked) and _object.validate_json(asked.request.body).keys() <= _CHANGES


async def _own_label(asked: _Asked) -> bool:
    return await _itself(asked) and _object.validate_json(asked.request.body).keys() <= _LABELS


async def _own_logs(asked: _Asked) -> bool:
    lines = _of_runs.validate_json(asked.request.body)
    return all(line.flow_run_id == asked.run.id for line in lines)


async def _own_artifact(asked: _Asked) -> bool:
    return _OfRun.model_validate_json(asked.request.body).flow_run_id == asked.run.id


async def _change_of_own_artifact(asked: _Asked) -> bool:
    return await asked.lookup.owner_of_artifact(UUID(asked.groups[0])) == asked.run.id


async def _own_events(asked: _Asked) -> bool:
    own = f"{JOB_RESOURCE}{asked.run.job}"
    return all(
        one.event in _EVENTS and one.about == own
        for one in _events.validate_json(asked.request.body)
    )


async def _result_block(asked: _Asked) -> bool:
    return await asked.lookup.name_of_block(UUID(asked.groups[0])) == RESULT_BLOCK


async def _named_block(asked: _Asked) -> bool:
    type, name = (unquote(group) for group in asked.groups)
    if f"{type}/{name}" == asked.run.credentials or name == RESULT_BLOCK:
        return True
    payload = _Payload.model_validate(asked.run.parameters.get("payload"))
    if type == _SECRET:
        return name in payload.secrets
    return type == _REGISTRY and payload.registry_credentials == f"{type}/{name}"


async def _new_helper(asked: _Asked) -> bool:
    """A helper has no more power than the run that wants it."""
    wanted, run = _NewHelper.model_validate_json(asked.request.body), asked.run
    return (
        UUID(asked.groups[0]) == await asked.lookup.deployment_named(_HELPERS)
        and _is_key_of_helper(wanted.idempotency_key, run)
        and (wanted.job_variables or {}) == run.job_variables
        and wanted.work_queue_name in (None, run.queue)
        and not wanted.labels
    )


async def _helpers(asked: _Asked) -> bool:
    wanted = _FindRuns.model_validate_json(asked.request.body).flow_runs.id
    return await _are_helpers(asked, wanted.any_)


async def _artifacts_of_helpers(asked: _Asked) -> bool:
    wanted = _FindArtifacts.model_validate_json(asked.request.body).artifacts.flow_run_id
    return await _are_helpers(asked, wanted.any_)


async def _are_helpers(asked: _Asked, ids: list[UUID]) -> bool:
    for id in ids:
        if not await _is_helper(asked, id):
            return False
    return True


async def _is_helper(asked: _Asked, id: UUID) -> bool:
    return _is_key_of_helper(await asked.lookup.key_of_run(id), asked.run)


def _is_key_of_helper(key: str | None, run: Run) -> bool:
    # part:<stage>:<part>:<number>, and the stage's name has the run's id between dots
    kind, _, rest = (key or "").partition(":")
    return kind == "part" and str(run.id) in rest.partition(":")[0].split(".")


_OWN = f"/flow_runs/({_ID})"
_BLOCK = "/block_types/slug/([^/]+)/block_documents/name/([^/]+)"
_RULES: list[tuple[str, str, _Rule]] = [
    ("GET", "/health", _any),
    ("GET", "/admin/version", _any),
    ("GET", "/csrf-token", _any),  # asked for before each client's first change
    ("GET", "/admin/storage", _any),  # the id of the default block for return values
    ("GET", _OWN, _itself_or_helper),
    ("PATCH", _OWN, _small_change),
    ("PATCH", f"{_OWN}/labels", _own_label),
    ("POST", f"{_OWN}/set_state", _itself_or_helper),
    ("GET", "/flow_run_states/?", _own_history),
    ("GET", f"/flows/({_ID})", _own_flow),
    ("GET", f"/deployments/({_ID})", _own_deployment),
    # Prefect names them in each event.
    ("GET", f"/work_queues/({_ID})", _own_queue),
    ("GET", "/work_pools/([^/]+)", _own_pool),
    ("POST", "/logs/?", _own_logs),
    ("POST", "/artifacts/?", _own_artifact),
    ("PATCH", f"/artifacts/({_ID})", _change_of_own_artifact),
    ("POST", "/events/?", _own_events),
    ("GET", f"/block_documents/({_ID})", _result_block),
    ("GET", _BLOCK, _named_block),
    ("GET", f"/deployments/name/{_HELPERS}", _any),
    ("POST", f"/deployments/({_ID})/create_flow_run", _new_helper),
    ("POST", "/flow_runs/filter", _helpers),
    ("POST", "/artifacts/filter", _artifacts_of_helpers),
]
