"""What a job is called: its queue, its pool, its id and the labels of its attempts."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Queue(StrEnum):
    """The work queues of every pool, strict priority in this order, first in first out inside."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Pool(StrEnum):
    """The work pools: containers, or plain processes where there is no Docker engine."""

    DOCKER = "docker"
    PROCESS = "process"


PLATFORM_POOL = "platform"
"""The work pool of the platform's own flows, which are no jobs: always processes."""

_LABEL = "prefecture"


JOB_ID_LABEL = f"{_LABEL}.job_id"
ATTEMPT_LABEL = f"{_LABEL}.attempt"
REQUEUE_OF_LABEL = f"{_LABEL}.requeue_of"
REQUEUED_AS_LABEL = f"{_LABEL}.requeued_as"


CONTAINER_LABEL = f"{_LABEL}.container"
"""On a container, from the job variable `container`: whether its job has it to itself."""
FRESH_CONTAINER = "fresh"
"""The value where it has."""

WORKER_LABEL = "prefect.worker.name"
"""Set by Prefect's workers on each run that they take."""


def job_id(labels: Mapping[str, Any], run_id: UUID) -> UUID:
    """The job that a flow run is an attempt at: its own id, unless a label names an earlier run.

    A label that is no id names none: anyone can set one.
    """
    try:
        return UUID(str(labels.get(JOB_ID_LABEL, run_id)))
    except ValueError:
        return run_id


def attempt_number(labels: Mapping[str, Any]) -> int:
    """Which attempt at its job a flow run is: 1 for the first."""
    try:
        return max(1, int(labels.get(ATTEMPT_LABEL, 1)))
    except (TypeError, ValueError):
        return 1


_ATTEMPT_TAG = re.compile(r"attempt \d+ of \d+, after: ")
_LONGEST_TAG = 100  # characters


def attempt_tag(number: int, most: int, reason: str) -> str:
    """The tag by which the UI's list of runs shows a later attempt, and why there is one."""
    tag = f"attempt {number} of {most}, after: {' '.join(reason.split())}"
    return tag if len(tag) <= _LONGEST_TAG else tag[: _LONGEST_TAG - 1] + "…"


def own_tags(tags: Iterable[str]) -> list[str]:
    """The tags of a job, without that which one of its attempts has."""
    return [tag for tag in tags if not _ATTEMPT_TAG.match(tag)]


def requeue_key(job: UUID, attempt: int) -> str:
    """The idempotency key of a later attempt: however many supervisors try, one is made."""
    return f"requeue:{job}:{attempt}"


INFRASTRUCTURE = "infrastructure: "
"""How the message of a state Crashed begins where the attempt itself names the reason."""
AGENT_VARIABLES = "prefecture_agent_"
"""Agents report in Prefect variables whose names start like this."""


class AgentReport(BaseModel):
    """What the agent beside a worker says of its host, again every few seconds."""

    model_config = ConfigDict(frozen=True)

    host: str
    pool: str
    worker: str
    failed: dict[str, str] = Field(description="the checks that fail now, and what each found")
    running: int = Field(ge=0, description="jobs that run on this host")
    holds_intake: bool = Field(description="whether it has paused the pool until it is well again")
    at: datetime

    @property
    def variable(self) -> str:
        """The name of the variable it stands in."""
        return AGENT_VARIABLES + re.sub(r"[^a-z0-9_-]", "_", f"{self.pool}_{self.worker}".lower())


WORKER_VARIABLES = "prefecture_worker_"
"""Workers say how many jobs they take in Prefect variables whose names start like this."""


class WorkerReport(BaseModel):
    """What a worker says of itself when it starts."""

    model_config = ConfigDict(frozen=True)

    pool: str
    worker: str
    slots: int = Field(ge=0, description="jobs that it runs at once")

    @property
    def variable(self) -> str:
        """The name of the variable it stands in."""
        return WORKER_VARIABLES + re.sub(r"[^a-z0-9_-]", "_", f"{self.pool}_{self.worker}".lower())
