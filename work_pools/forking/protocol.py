"""Messages between a worker and a fork server: one JSON object a line."""

import json
from typing import Any, Literal, NotRequired, TypedDict


class Request(TypedDict):
    """Message of the worker: fork a process for this run."""

    run: str
    """The id of the flow run."""
    variables: dict[str, str]
    """The environment variables that differ from run to run."""
    folder: NotRequired[str]
    """Working directory, also for temporary files; without it, the server's own directory."""
    last: NotRequired[bool]
    """In a container: whether the container serves no run after this one."""


class Report(TypedDict):
    """Message of the server, or, for `started`, of the fork itself."""

    event: Literal["started", "ended"]
    run: str
    pid: NotRequired[int]
    code: NotRequired[int]
    """Exit code, or minus the signal's number, as in `subprocess`."""
    peak_memory: NotRequired[int]
    """Peak resident memory of the process in bytes, with the pages that it shares."""


MARK = b"\x1e"
"""Prefix of a report on stdout, which tells it from the output of runs."""


def encoded(message: Request | Report) -> bytes:
    """Encode a message as a line."""
    return json.dumps(message).encode() + b"\n"


def decoded(line: bytes) -> Any:
    """Decode the message of a line."""
    return json.loads(line)
