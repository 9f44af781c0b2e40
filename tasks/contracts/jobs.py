"""Identifiers of a job: its queue, its pool, its id and the labels of its attempts."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID


class Queue(StrEnum):
    """The work queues of every pool: strict priority in this order, first in first out inside."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Pool(StrEnum):
    """The work pools: containers, plain processes where there is no Docker engine, or tasks of
    Amazon ECS."""

    DOCKER = "docker"
    PROCESS = "process"
    ECS = "ecs"


PLATFORM_POOL = "platform"
"""The work pool of the platform's own flows, which are no jobs; they run as processes."""

_LABEL = "prefecture"


JOB_ID_LABEL = f"{_LABEL}.job_id"
ATTEMPT_LABEL = f"{_LABEL}.attempt"
REQUEUE_OF_LABEL = f"{_LABEL}.requeue_of"
REQUEUED_AS_LABEL = f"{_LABEL}.requeued_as"
AFTER_LABEL = f"{_LABEL}.after"
"""Label of a run whose job waits for others: their ids, with commas. All must complete."""
AFTER_ENDED_LABEL = f"{_LABEL}.after_ended"
"""The same for those that must end, in whatever way."""
MOVES_LABEL = f"{_LABEL}.moves"
"""Label of a run: how many of the attempts before it did not crash, but were moved."""

WAITS_FOR_JOBS = "Waiting"
"""Name of the state, of Prefect's type Paused, of a run whose job waits for other jobs."""
HELD = "Held"
"""Name of the state, of Prefect's type Paused, of a run that starts when it is released."""
HOLDS = "held on request"
"""Message of that state, and of the state Pending, for a moment, of a run that is being held."""
MOVED = "Moved"
"""Name of the state, of Prefect's type Crashed, of a run whose job is in another queue now."""
DRAINED_LABEL = f"{_LABEL}.drained"
"""Label of an attempt that was ended because its host is drained: the host, or its worker."""


CONTAINER_LABEL = f"{_LABEL}.container"
"""Label of a container, set from the job variable `container`: whether one job has it alone."""
FRESH_CONTAINER = "fresh"
"""Value of CONTAINER_LABEL where one job has the container alone."""

SERVER_ALONE = "server"
"""Value of the job variable `network` where a job connects to its Prefect server alone."""

KEPT_VARIABLE = "expires"
"""The job variable that says for how many seconds the result of a job is kept."""

WORKER_LABEL = "prefect.worker.name"
"""Prefect's workers set this label on each run that they claim."""


def job_id(labels: Mapping[str, Any], run_id: UUID) -> UUID:
    """Return the id of a flow run's job: the run's own id, unless a label names an earlier run.

    A label that is no UUID is ignored: anyone can set one.
    """
    try:
        return UUID(str(labels.get(JOB_ID_LABEL, run_id)))
    except ValueError:
        return run_id


def attempt_number(labels: Mapping[str, Any]) -> int:
    """Return the number of a flow run among the attempts at its job: 1 for the first."""
    try:
        return max(1, int(labels.get(ATTEMPT_LABEL, 1)))
    except (TypeError, ValueError):
        return 1


def moves(labels: Mapping[str, Any]) -> int:
    """Return how many of the attempts before a flow run were moved to another queue or host."""
    try:
        return max(0, min(int(labels.get(MOVES_LABEL, 0)), attempt_number(labels) - 1))
    except (TypeError, ValueError):
        return 0


def ids_in(label: Any) -> list[UUID]:
    """Return the ids in the value of AFTER_LABEL or AFTER_ENDED_LABEL.

    Raises ValueError: anyone can set a label.
    """
    return [UUID(text) for text in str(label or "").split(",") if text]


USER_TAG = "user:"
"""Begins the tag of a job that names its user: `user:anna`."""


def user_of(tags: Iterable[str]) -> str | None:
    """The user whose job has these tags; None where it is nobody's."""
    return next((tag.removeprefix(USER_TAG) for tag in tags if tag.startswith(USER_TAG)), None)


_ATTEMPT_TAG = re.compile(r"attempt \d+ of \d+, after: ")
_LONGEST_TAG = 100  # characters


def attempt_tag(number: int, most: int, reason: str) -> str:
    """Make the tag that shows in the UI that a run is a later attempt, and why there is one."""
    tag = f"attempt {number} of {most}, after: {' '.join(reason.split())}"
    return tag if len(tag) <= _LONGEST_TAG else tag[: _LONGEST_TAG - 1] + "…"


def own_tags(tags: Iterable[str]) -> list[str]:
    """Return the tags of a job, without the tag of a later attempt."""
    return [tag for tag in tags if not _ATTEMPT_TAG.match(tag)]


def requeue_key(job: UUID, attempt: int) -> str:
    """Make the idempotency key of a later attempt: several supervisors create one run only."""
    return f"requeue:{job}:{attempt}"


INFRASTRUCTURE = "infrastructure: "
"""Prefix of the message of a Crashed state where the attempt itself names the reason."""
