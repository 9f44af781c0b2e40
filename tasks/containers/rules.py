"""Guesses which limit stopped a container, from its exit code and its output."""

import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

_NO_NAME = (
    r"Temporary failure in name resolution|Temporary failure resolving|Name or service not known|"
    r"Could not resolve|Couldn't resolve|Could not find a version that satisfies|"
    r"Network is unreachable|ENETUNREACH|EAI_AGAIN|bad address '|UnknownHostException|"
    r"nodename nor servname|No address associated with hostname|failed to lookup address"
)
_OFFLINE = re.compile(_NO_NAME, re.IGNORECASE)
_NO_PROCESSES = re.compile(
    r"Resource temporarily unavailable|can't start new thread|unable to create "
    r"(new )?native thread|pthread_create|can(no|')t fork|failed to create new OS thread",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limits:
    """Limits of one container that the messages name."""

    network: str
    largest_file: str = ""
    """The payload's `output`; empty where there is no /output."""


def is_offline(lines: Iterable[str]) -> bool:
    """Whether a printed line says that the network is missing."""
    return any(_OFFLINE.search(line) for line in lines)


def lacks_processes(lines: Iterable[str]) -> bool:
    """Whether a printed line says that no more processes can be started."""
    return any(_NO_PROCESSES.search(line) for line in lines)


def stopped_by(code: int, lines: Iterable[str], limits: Limits) -> str:
    """The limit that a container with exit code `code` probably met, and the cure.

    Empty where neither the code nor a printed line tells.
    """
    said = list(lines)
    if limits.network == "none" and is_offline(said):
        return 'it has no network: "network": "bridge" in the payload gives it the internet'
    for pattern, rule in _rules():
        if any(pattern.search(line) for line in said):
            return rule
    if code == 128 + signal.SIGXFSZ:
        return f"a file reached the maximum size: raise `output` ({limits.largest_file})"
    if code == 128 + signal.SIGBUS:
        return "/dev/shm or a mapped file was full: raise `shm` or `memory` in the payload"
    if code == 128 + signal.SIGKILL:
        # A kill through the engine, or by the container's memory limit, is detected before.
        return (
            "killed by SIGKILL from inside the container, or by the host's kernel: neither its "
            "memory limit nor its time limit was met"
        )
    return ""


def _rules() -> Iterable[tuple[re.Pattern[str], str]]:
    user = f"it runs as the jobs' user {os.getuid()}:{os.getgid()}, not as the image's"
    return (
        # What Docker's own init prints where it cannot execute the entry point.
        (
            re.compile(r"exec .+ failed: Permission denied"),
            "its entry point or command cannot be executed: RUN chmod a+rx it in the Dockerfile",
        ),
        (
            re.compile(r"exec .+ failed: No such file or directory"),
            "the image does not have its entry point or command, or not the interpreter that is "
            "named in its first line (which must end in LF, not in CRLF as on Windows)",
        ),
        (
            re.compile(r"exec .+ failed: Exec format error"),
            "its entry point or command has no #! line, or is a program for another platform",
        ),
        (
            re.compile(r"Read-only file system|EROFS|ReadOnlyFileSystemException", re.IGNORECASE),
            "only /output, /tmp, /dev/shm and the image's volumes can be written: write there",
        ),
        (
            re.compile(r"Permission denied|EACCES|AccessDeniedException", re.IGNORECASE),
            f"{user}: make the file readable for all in the image, or write to /output or /tmp",
        ),
        (
            re.compile(
                r"Operation not permitted|\bEPERM\b|must be (run as )?root|not root\b|"
                r"must be superuser|root privileges",
                re.IGNORECASE,
            ),
            f"{user}, and has no capabilities: it cannot be root, mount or chown",
        ),
        (
            re.compile(r"No space left on device|ENOSPC|Bus error", re.IGNORECASE),
            "/tmp, /dev/shm or a volume is full, each as large as `memory`, 256 MiB at least for "
            "/tmp and volumes: raise `memory` (or `shm`), or write to /output",
        ),
        (
            _NO_PROCESSES,
            "it may have 256 processes and threads: start fewer",
        ),
        (
            re.compile(r"File too large|EFBIG", re.IGNORECASE),
            "a file reached the maximum size: raise `output` in the payload",
        ),
    )
