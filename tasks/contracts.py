"""Pydantic types shared by all: names, payloads, the manifest. Imports nothing of ours.

The types are the submit form in the UI and the error message of the API: every bound that a
schema can say is said here, so that a bad value is refused with a 409 before anything runs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Queue(StrEnum):
    """The work queues of every pool, strict priority in this order, first in first out inside."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Pool(StrEnum):
    """The work pools: containers, or plain processes where there is no Docker engine."""

    DOCKER = "docker"
    PROCESS = "process"


# One path segment: no control character, no slash or backslash, no dot in front (which keeps
# `.`, `..` and our own staging folder out). The lookahead is the one end anchor that both Python's
# `re` (the server) and JavaScript (the UI form) read as the very end: `$` admits a newline.
_SEGMENT = r"[^./\\\x00-\x1f\x7f-\x9f\u2028\u2029][^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]*"
DIRECTORY_PATTERN = rf"^{_SEGMENT}(/{_SEGMENT})*(?![\s\S])"
# A result published under a job's id would stand in the place of that job's own. Not in the schema:
# a refusal there quotes the whole pattern, and this one would make it unreadable.
_JOB_ID = re.compile(r"(^|/)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/|$)")
_SOURCE_PATTERN = r"^[^/\\\x00-\x1f\x7f-\x9f][^\\\x00-\x1f\x7f-\x9f]*(?![\s\S])"
MAX_NAME_BYTES = 255
S3_SCHEME = "s3://"
_LABEL = "prefecture"

JOB_ID_LABEL = f"{_LABEL}.job_id"
ATTEMPT_LABEL = f"{_LABEL}.attempt"
REQUEUE_OF_LABEL = f"{_LABEL}.requeue_of"
REQUEUED_AS_LABEL = f"{_LABEL}.requeued_as"


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


def requeue_key(job: UUID, attempt: int) -> str:
    """The idempotency key of a later attempt: however many supervisors try, one is made."""
    return f"requeue:{job}:{attempt}"


RESULT_BLOCK = "prefecture-results"
"""The storage block that Prefect keeps each flow's small return value in."""


def _check_directory(value: str) -> str:
    if not re.match(DIRECTORY_PATTERN, value) or _JOB_ID.search(value):
        raise ValueError(
            f"{value!r} is not a results directory: use a relative name such as 'holiday' or "
            "'trips/2026', without '..', a leading '/' or '.', control characters, or a job id"
        )
    for segment in value.split("/"):
        if len(segment.encode()) > MAX_NAME_BYTES:
            raise ValueError(
                f"{segment!r} is longer than {MAX_NAME_BYTES} bytes: choose a shorter name"
            )
    return value


def stays_inside(path: str) -> bool:
    """Whether a path, with '/', names something below the folder that it is relative to."""
    return not {"", ".", ".."} & {*path.split("/")} and "\0" not in path


def _check_published(path: str) -> str:
    if not stays_inside(path):
        raise ValueError(f"{path!r} leaves the result: run the job again")
    return path


def _check_folder(path: str) -> str:
    return path and _check_published(path)


def _check_source(value: str) -> str:
    if not re.match(_SOURCE_PATTERN, value):
        raise ValueError(
            f"{value!r} is not a source: use a path or glob relative to the inputs root, such as "
            "'photos/*.jpg', or an s3:// address"
        )
    return value


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(rf"({_SEGMENT}(/{_SEGMENT})*)?")


@dataclass(frozen=True)
class S3Address:
    """A place in S3: a bucket, and what every key there begins with; `prefix` may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> "S3Address":
        """From `s3://bucket/prefix`. Raises ValueError."""
        bucket, _, prefix = text.removeprefix(S3_SCHEME).partition("/")
        prefix = prefix.removesuffix("/")
        named = _BUCKET.fullmatch(bucket) and _PREFIX.fullmatch(prefix)
        if not named or not text.startswith(S3_SCHEME) or {*"{}"} & {*prefix}:
            raise ValueError(f"{text!r} is no place in S3: write s3://bucket/prefix")
        return cls(bucket, prefix)

    def key(self, *parts: str) -> str:
        """The key of something here."""
        return "/".join((self.prefix, *parts) if self.prefix else parts)

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.prefix}".removesuffix("/")


ResultsDirectory = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        examples=["holiday"],
        json_schema_extra={
            "pattern": DIRECTORY_PATTERN,
            # Here, because Prefect overwrites both of a top-level parameter by its docstring's.
            "title": "Results directory",
            "description": "A name such as holiday or trips/2026, without '..' and with no '/' or "
            "'.' in front. The results go into a folder of this job's own inside it.",
        },
    ),
    AfterValidator(_check_directory),
]

Source = Annotated[
    str,
    Field(
        title="Source",
        description="A file, folder or glob under the inputs root, such as photos or "
        "photos/*.jpg, or an s3:// address.",
        min_length=1,
        max_length=1024,
        examples=["photos/*.jpg", "s3://bucket/photos/"],
        json_schema_extra={"pattern": _SOURCE_PATTERN},
    ),
    AfterValidator(_check_source),
]

ImageFormat = Literal["jpeg", "png", "webp", "avif", "tiff"]


class Payload(BaseModel):
    """What a compute task works on. An unknown key is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CompressImages(Payload):
    """Pictures, and the share of their bytes that each may keep."""

    source: Source
    ratio: Annotated[
        float,
        Field(
            title="Ratio",
            description="The most that each file may keep of its bytes, over 0 and up to 1: "
            "0.4 makes every file at most 40 % of its size.",
            gt=0,
            le=1,
            examples=[0.4],
        ),
    ]


class ConvertImages(Payload):
    """Pictures, and the format each is to have."""

    source: Source
    format: Annotated[
        ImageFormat, Field(title="Format", description="The format to write.", examples=["webp"])
    ]


class FindPrimes(Payload):
    """The range in which every prime is wanted."""

    upper_bound: Annotated[
        int,
        Field(
            title="Upper bound",
            description="All primes up to and including this number, as Parquet (column `prime`).",
            ge=2,
            le=10**10,
            examples=[1_000_000],
        ),
    ]


class PublishedFile(BaseModel):
    """One file of a result."""

    model_config = ConfigDict(frozen=True)

    path: Annotated[str, AfterValidator(_check_published)] = Field(
        description="relative to the manifest, or to its `folder` there, with '/'"
    )
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The last file written of a result. A result exists when its manifest does."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    job: UUID
    task: str
    attempt: int = Field(ge=1)
    flow_run: UUID = Field(description="the attempt that published")
    parameters: dict[str, Any]
    submitted: datetime
    started: datetime
    published: datetime
    summary: dict[str, Any] = Field(description="what the task has to say about its work")
    files: list[PublishedFile]
    folder: Annotated[str, AfterValidator(_check_folder)] = Field(
        default="", description="where the files are, relative to the manifest; empty: beside it"
    )

    @property
    def bytes(self) -> int:
        """Size of all files, in bytes, without the manifest itself."""
        return sum(file.bytes for file in self.files)


class Receipt(BaseModel):
    """What a compute flow returns: where its result stands. Small JSON, kept by Prefect."""

    model_config = ConfigDict(frozen=True)

    job: UUID
    location: str
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)


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
