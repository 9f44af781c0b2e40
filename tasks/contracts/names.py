"""Names of locations: results directories, sources, addresses in S3."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from tasks.contracts.schema import matches

# One path segment: no control character, no slash or backslash, no dot in front (this excludes
# `.`, `..` and the staging folder). The lookahead is the one end anchor that both Python's
# `re` (the server) and JavaScript (the UI form) read as the very end: `$` admits a newline.
_SEGMENT = r"[^./\\\x00-\x1f\x7f-\x9f\u2028\u2029][^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]*"
DIRECTORY_PATTERN = rf"^{_SEGMENT}(/{_SEGMENT})*(?![\s\S])"
_DIRECTORY_EXPECTED = (
    "a name such as holiday or trips/2026, without .., a / or . in front, or a control character"
)
# A result published under a job's id would take the place of that job's own result.
_JOB_ID = re.compile(r"(^|/)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/|$)")
SOURCE_MARK = "x-source"
"""Marks a source in a schema: clients of the gateway can upload files for it."""
_SOURCE_PATTERN = r"^[^/\\\x00-\x1f\x7f-\x9f][^\\\x00-\x1f\x7f-\x9f]*(?![\s\S])"
"""Of a source, in the JSON schema of each payload that has one."""
_SOURCE_EXPECTED = (
    "a path or glob under the inputs root, such as photos or photos/*.jpg, without a / in front, "
    "or an s3:// address"
)
MAX_NAME_BYTES = 255
S3_SCHEME = "s3://"
JOB_SCHEME = "job://"
KAFKA_SCHEME = "kafka://"


def stays_inside(path: str) -> bool:
    """Whether a relative path, with '/', stays below its folder: no `..`, `.` or empty segment."""
    return not {"", ".", ".."} & {*path.split("/")} and "\0" not in path


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


def must_match(pattern: str, refusal: str) -> AfterValidator:
    """A validator of texts that match a pattern as a whole.

    `refusal`: the message, after the text itself.
    """

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} {refusal}")
        return value

    return AfterValidator(check)


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(rf"({_SEGMENT}(/{_SEGMENT})*)?")


@dataclass(frozen=True)
class S3Address:
    """A location in S3: a bucket and the prefix of its keys, which may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> "S3Address":
        """Parse `s3://bucket/prefix`. Raises ValueError where the text is no such address."""
        bucket, _, prefix = text.removeprefix(S3_SCHEME).partition("/")
        prefix = prefix.removesuffix("/")
        named = _BUCKET.fullmatch(bucket) and _PREFIX.fullmatch(prefix)
        if not named or not text.startswith(S3_SCHEME) or {*"{}"} & {*prefix}:
            raise ValueError(f"{text!r} is no place in S3: write s3://bucket/prefix")
        return cls(bucket, prefix)

    def key(self, *parts: str) -> str:
        """Return the key of an object below the prefix, made of path segments."""
        return "/".join((self.prefix, *parts) if self.prefix else parts)

    def contains(self, other: "S3Address") -> bool:
        """Whether another location is this one, or below it."""
        return self.bucket == other.bucket and f"{other.prefix}/".startswith(self.key(""))

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.bucket}/{self.prefix}".removesuffix("/")


_ANY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class JobSource:
    """A source that is in the result of another job: `job://<job>/<path or glob>`.

    A submitted payload has `job://<results directory>/<job id>/<path>`, which is where it will be
    below the results root.
    """

    job: str
    """The id of the job in lower case, or what a user wrote in its place: a key."""
    path: str
    """A file, folder or glob in the result; empty for all of it."""
    directory: str = ""
    """The results directory; empty where it is not named."""

    @classmethod
    def parse(cls, source: str) -> "JobSource | None":
        """Parse a source; None where it is of another kind."""
        if not source.startswith(JOB_SCHEME):
            return None
        names = source.removeprefix(JOB_SCHEME).split("/")
        # No segment of a results directory is a job's id: see _check_directory.
        at = next((n for n, name in enumerate(names) if _ANY_ID.fullmatch(name)), 0)
        job = names[at].lower() if _ANY_ID.fullmatch(names[at]) else names[at]
        return cls(job, "/".join(names[at + 1 :]), "/".join(names[:at]))

    def __str__(self) -> str:
        place = f"{self.directory}/{self.job}" if self.directory else self.job
        return f"{JOB_SCHEME}{place}/{self.path}"


ResultsDirectory = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        examples=["holiday"],
        json_schema_extra={
            **matches(DIRECTORY_PATTERN, _DIRECTORY_EXPECTED),
            # Here, since Prefect takes those of a top-level parameter from the docstring.
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
        "photos/*.jpg, an s3:// address, or job://<job id>/<path>: a result of another job.",
        min_length=1,
        max_length=1024,
        examples=["photos/*.jpg", "s3://bucket/photos/"],
        json_schema_extra=matches(_SOURCE_PATTERN, _SOURCE_EXPECTED) | {SOURCE_MARK: True},
    ),
    must_match(
        _SOURCE_PATTERN,
        "is not a source: use a path or glob relative to the inputs root, such as 'photos/*.jpg', "
        "or an s3:// address",
    ),
]
