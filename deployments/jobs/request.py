"""Job requests: checked, translated for Prefect's API, and compared with existing jobs."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError

from tasks.contracts import (
    AFTER_ENDED_LABEL,
    AFTER_LABEL,
    ENGINE_TASKS,
    GPUS_VARIABLE,
    HOST_LABELS_VARIABLE,
    KEPT_VARIABLE,
    NO_ENGINE,
    Pool,
    Queue,
    ResultsDirectory,
)
from tasks.errors import InvalidPayload, KeyTaken

if TYPE_CHECKING:  # what works through the gateway needs no Prefect
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

_RENDERED = "__prefect_kind"  # Prefect's API renders a value that holds this key as a template
_MAX_DURATION = 31_536_000  # seconds, a year: the maximum in the pools' templates
_SHORTEST_KEPT, _LONGEST_KEPT = 60, 3_153_600_000  # seconds, a century: as in the templates
_SHOWN = 80  # characters of a value in a message
_MAX_REFUSAL = 400  # characters of a refusal, which may quote the refused value
_MOST_GPUS = 64  # as in the templates of the pools docker and process
_MAX_KEY = 200  # characters
_MOST_TAGS = 50  # an event of Prefect names all tags of its run among its 100 resources at most
_CLOCKS = timedelta(seconds=5)  # by which the clock of who submits may be late
_AFTER_LABELS = (AFTER_LABEL, AFTER_ENDED_LABEL)


@dataclass(frozen=True)
class Terms:
    """The request for a job without its payload: the same for all jobs submitted at once.

    Raises InvalidPayload where a field is invalid.
    """

    task: str
    """A compute task, such as compress-images."""
    results_directory: str
    queue: str | None = None
    """Of `high`, `normal` and `low`. None: not named, and then `normal`."""
    tags: Iterable[str] = ()
    max_duration: int | None = None
    """Seconds one attempt may run."""
    memory: str | None = None
    """Such as 512m."""
    name: str | None = None
    """The job's name in the UI. Default: Prefect makes one up."""
    after: Iterable[str] = ()
    """Jobs that must complete before it starts, by their ids or keys."""
    after_ended: bool = False
    """Whether it is enough that they end."""
    expires: int | None = None
    """Seconds after which the result may be removed."""
    gpus: int | None = None
    """GPUs that it has for itself."""
    host_labels: Iterable[str] = ()
    """Labels that its host must have."""
    is_queue_named: bool = field(init=False)

    def __post_init__(self) -> None:
        """Check the fields that can be checked without the server."""
        object.__setattr__(self, "is_queue_named", self.queue is not None)
        if self.queue is None:
            object.__setattr__(self, "queue", Queue.NORMAL)
        check_queue(self.in_queue)
        if "/" in self.task:
            raise InvalidPayload(
                f"task: {cut(self.task)!r} has a '/': name the task alone, such as "
                f"{cut(self.task.partition('/')[0])!r}, and its queue beside it"
            )
        if isinstance(self.tags, str):
            text = cut(self.tags)
            raise InvalidPayload(f"tags: {text!r} is one text: give a list, [{text!r}]")
        if isinstance(self.after, str):
            text = cut(self.after)
            raise InvalidPayload(f"after: {text!r} is one text: give a list, [{text!r}]")
        tags = tuple(self.tags)
        object.__setattr__(self, "tags", tags)
        object.__setattr__(self, "after", tuple(str(job) for job in self.after))
        for name, text in (
            ("task", self.task),
            ("name", self.name),
            *(("tags", t) for t in self.tags),
            *(("after", job) for job in self.after),
        ):
            if text is not None and not text.isprintable():
                raise InvalidPayload(
                    f"{name}: {cut(text)!r} has unprintable characters: leave them out"
                )
        if len(tags) > _MOST_TAGS:
            raise InvalidPayload(
                f"tags: {len(tags)} are more than the {_MOST_TAGS} that a job may have: leave "
                "some out"
            )
        if any(not tag.strip() for tag in self.tags):
            raise InvalidPayload("tags: one is empty: leave it out, or give it a text")
        object.__setattr__(self, "host_labels", tuple(self.host_labels))
        if any(not job.strip() for job in self.after):
            raise InvalidPayload("after: one is empty: name a job by its id or key")
        job_limits(self.max_duration, self.memory, self.expires, self.gpus, self.host_labels)
        try:
            TypeAdapter[str](ResultsDirectory).validate_python(self.results_directory)
        except ValidationError as error:
            raise InvalidPayload.of("results_directory", error) from error

    @property
    def in_queue(self) -> str:
        """The queue, named or not."""
        return self.queue or Queue.NORMAL

    def for_many(self, jobs: int, most: int | None) -> "Terms":
        """These terms for so many jobs at once: in `low` where no queue is named, and they are more
        than `most`; None is any number."""
        if self.is_queue_named or most is None or jobs <= most:
            return self
        return replace(self, queue=Queue.LOW)

    @property
    def limits(self) -> dict[str, Any]:
        """The job variables."""
        return job_limits(self.max_duration, self.memory, self.expires, self.gpus, self.host_labels)

    @property
    def common(self) -> dict[str, Any]:
        """The fields of an API request that are the same for every job on these terms."""
        named = {"name": self.name} if self.name else {}
        return named | {"tags": list(self.tags), "job_variables": self.limits}

    def check_deployment(self, deployment: "DeploymentResponse") -> None:
        """Raise InvalidPayload where the deployment's pool does not support these terms."""
        if self.task in ENGINE_TASKS and "engine" not in (deployment.job_variables or {}):
            raise InvalidPayload(f"{self.task}: {NO_ENGINE}")
        if self.memory is not None and deployment.work_pool_name == Pool.PROCESS:
            raise InvalidPayload(
                "memory: jobs run as plain processes here, which have no such limit"
            )

    def parameters(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The flow's parameters as the server returns them. Raises InvalidPayload if not JSON."""
        parameters = {"payload": payload, "results_directory": self.results_directory}
        try:
            refuse_templates(parameters, "")
            text = json.dumps(
                parameters | {"payload": dict(payload)}, ensure_ascii=False, allow_nan=False
            )
            return json.loads(text.encode())  # a lone surrogate cannot be sent
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidPayload(f"the payload is not JSON: {error}") from error

    def body(self, parameters: Mapping[str, Any], key: str) -> dict[str, Any]:
        """The API request that creates a flow run.

        It has no state, so that the server sets the time: its clock, not ours, keeps the queue
        first in, first out. Prefect's own method always sends a state.
        """
        return self.common | {"parameters": parameters, "idempotency_key": key}

    def compare(
        self,
        parameters: Mapping[str, Any],
        run: "FlowRun",
        deployment: "DeploymentResponse",
        key: str,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise KeyTaken where `run`, which the server has for the key, is a different job.

        `labels`: those of what the job waits for.
        """
        own = set(deployment.tags)  # which Prefect adds to each run
        limits = run.job_variables or {}
        compared = {
            "payload": (run.parameters.get("payload"), parameters["payload"]),
            "results_directory": (
                run.parameters.get("results_directory"),
                self.results_directory,
            ),
            "queue": (run.work_queue_name, self.in_queue),
            "tags": (sorted({*run.tags} - own), sorted({*self.tags} - own)),
            "max_duration": (limits.get("max_duration"), self.max_duration),
            "memory": (limits.get("mem_limit"), self.memory),
            "gpus": (limits.get(GPUS_VARIABLE), self.gpus),
            "host_labels": (limits.get(HOST_LABELS_VARIABLE, []), list(self.host_labels)),
            "after": tuple(
                ", ".join(str(each[label]) for label in _AFTER_LABELS if label in each) or None
                for each in (run.labels, labels or {})
            ),
            "expires": (limits.get(KEPT_VARIABLE), self.expires),
        }
        for name, (there, asked) in compared.items():
            if there != asked:
                field, there, asked = _difference(name, there, asked)
                raise KeyTaken(
                    f"key '{key}' names job {run.id} already, whose {field} is {_short(there)} and "
                    f"not {_short(asked)}: choose another key, or submit just that"
                )


def check_against_schema(parameters: Mapping[str, Any], deployment: "DeploymentResponse") -> None:
    """Raise InvalidPayload, in the server's words, where the server would refuse the parameters."""
    from prefect.utilities.schema_tools import ValidationError as SchemaError
    from prefect.utilities.schema_tools import validate

    schema = deployment.parameter_openapi_schema
    if not schema or not deployment.enforce_parameter_schema:
        return
    # Listing the errors takes a fraction of the time: raising checks the schema itself as well.
    if validate(dict(parameters), schema):
        try:
            validate(dict(parameters), schema, raise_on_error=True)
        except SchemaError as error:
            raise InvalidPayload(one_line(str(error))) from error


def has_passed(payload: Mapping[str, Any]) -> bool:
    """Whether a payload has a `start` that a new job could not have any more."""
    try:
        return datetime.fromisoformat(payload.get("start", "")) < datetime.now(UTC) - _CLOCKS
    except (ValueError, TypeError):  # there is none, or no time: that is said by the schema
        return False


def start_refusal(payload: Mapping[str, Any]) -> str:
    """Why a new job cannot have the start of this payload; empty where it may."""
    if not has_passed(payload):
        return ""
    return f"payload.start: {payload['start']} is in the past: give a later time, or leave it out"


def parse_payload(text: str, where: str = "") -> dict[str, Any]:
    """Parse a payload. Raises InvalidPayload, prefixed with `where`, if it is no JSON object."""
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError) as error:  # also too long a number, or nested too deep
        raise InvalidPayload(f"{where}the payload is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidPayload(
            f'{where}the payload is not a JSON object such as {{"upper_bound": 100}}'
        )
    return parsed  # pyright: ignore[reportUnknownVariableType]  # JSON


def check_key(key: str) -> None:
    """Raise InvalidPayload for a key that is empty, too long or unprintable."""
    if not key.strip() or len(key) > _MAX_KEY or not key.isprintable():
        raise InvalidPayload(f"key: {_short(key)} is not 1 to {_MAX_KEY} printable characters")


def check_queue(queue: str) -> None:
    """Raise InvalidPayload for an unknown queue, which Prefect's API would silently create."""
    if queue not in set(Queue):
        raise InvalidPayload(f"there is no queue '{cut(queue)}': choose {', '.join(Queue)}")


def job_limits(
    max_duration: int | None,
    memory: str | None,
    expires: int | None = None,
    gpus: int | None = None,
    host_labels: Iterable[str] = (),
) -> dict[str, Any]:
    """The job variables for a job's limits, which override those of its deployment."""
    limits: dict[str, Any] = {}
    if max_duration is not None:
        if max_duration < 1:
            raise InvalidPayload(f"max_duration: {max_duration} is less than 1 second")
        if max_duration > _MAX_DURATION:
            raise InvalidPayload(
                f"max_duration: {max_duration} is more than a year, {_MAX_DURATION} seconds"
            )
        limits["max_duration"] = max_duration
    if memory is not None:
        if not re.fullmatch(r"[1-9][0-9]*[kmg]", memory):
            raise InvalidPayload(
                f"memory: '{cut(memory)}' is not a number and k, m or g, such as 512m"
            )
        limits["mem_limit"] = memory
    if expires is not None:
        if not _SHORTEST_KEPT <= expires <= _LONGEST_KEPT:
            raise InvalidPayload(
                f"expires: {expires} is not {_SHORTEST_KEPT} to {_LONGEST_KEPT} seconds"
            )
        limits[KEPT_VARIABLE] = expires
    if gpus is not None:
        if not 1 <= gpus <= _MOST_GPUS:
            raise InvalidPayload(f"gpus: {gpus} is not 1 to {_MOST_GPUS}")
        limits[GPUS_VARIABLE] = gpus
    if labels := list(host_labels):
        limits[HOST_LABELS_VARIABLE] = labels
    return limits


def refuse_templates(value: Any, path: str) -> None:
    """Raise InvalidPayload for the key that makes Prefect's API render a value, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]  # JSON, of any depth
            if key == _RENDERED:
                raise InvalidPayload(f"{path or 'payload'}: the key {_RENDERED} is not allowed")
            refuse_templates(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            refuse_templates(inner, f"{path}.{index}")


def one_line(text: str) -> str:
    """The server's message without its prefix and line breaks, shortened in its middle.

    It may quote a value of any length there.
    """
    line = " ".join(text.removeprefix("Error creating flow run: ").split())
    half = _MAX_REFUSAL // 2
    return line if len(line) <= _MAX_REFUSAL else f"{line[:half]} … {line[-half:]}"


def cut(text: str) -> str:
    """A text of a user, cut to a length that fits in a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _difference(path: str, there: Any, asked: Any) -> tuple[str, Any, Any]:
    """The path of the innermost difference of two JSON values, and both values there."""
    if isinstance(there, dict) and isinstance(asked, dict):
        old, new = cast(dict[str, Any], there), cast(dict[str, Any], asked)
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                return _difference(f"{path}.{key}", old.get(key), new.get(key))
    return path, cast(Any, there), cast(Any, asked)


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    return cut(json.dumps(value, ensure_ascii=False))
