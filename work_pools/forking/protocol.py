"""What a worker and a fork server say to each other: a line each, a JSON object."""

import json
from typing import Any, Literal, NotRequired, TypedDict


class Request(TypedDict):
    """From the worker: fork a process for this run."""

    run: str
    """The id of the flow run."""
    variables: dict[str, str]
    """Of its environment: what is not the same for every run."""
    folder: NotRequired[str]
    """Where it works and keeps its temporary files; the server's own where none is named."""
    last: NotRequired[bool]
    """In a container: whether it serves no other run after this."""


class Report(TypedDict):
    """From the server, or from the fork itself where it has begun."""

    event: Literal["started", "ended"]
    run: str
    pid: NotRequired[int]
    code: NotRequired[int]
    """As `subprocess` counts: the exit code, or minus the signal's number."""
    peak_memory: NotRequired[int]
    """Bytes: the most that the process had in memory, what it shares with the server included."""


MARK = b"\x1e"
"""Before a report on stdout, where it stands among what runs print."""


def encoded(message: Request | Report) -> bytes:
    """A message as a line."""
    return json.dumps(message).encode() + b"\n"


def decoded(line: bytes) -> Any:
    """The message that a line holds."""
    return json.loads(line)
