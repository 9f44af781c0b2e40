"""The rule that a container has met, by what programs print when they meet it."""

import pytest

from tasks.containers.images.pinned import Image
from tasks.containers.output import Collected
from tasks.containers.rules import Limits, is_offline, stopped_by
from tasks.containers.run_container import summarised
from tasks.containers.running import ContainerOutcome


@pytest.mark.parametrize(
    ("code", "line", "rule"),
    [
        (1, "OSError: [Errno 30] Read-only file system: '/etc/x'", "only /output, /tmp, /dev/shm"),
        (1, "Error: EROFS: read-only file system, open '/x'", "only /output, /tmp, /dev/shm"),
        (1, "cat: secret: Permission denied", "not as the image's"),
        (1, "java.nio.file.AccessDeniedException: /app", "not as the image's"),
        (1, "chown: changing ownership of 'x': Operation not permitted", "no capabilities"),
        (32, "mount: /mnt: must be superuser to use mount.", "no capabilities"),
        (100, "E: This must be run as root", "no capabilities"),
        (1, "OSError: [Errno 28] No space left on device", "raise `memory` (or `shm`)"),
        (135, "", "/dev/shm or a mapped file was full"),
        (1, "RuntimeError: can't start new thread", "256 processes and threads"),
        (1, "OutOfMemoryError: unable to create native thread", "256 processes and threads"),
        (1, "OSError: [Errno 27] File too large", "raise `output`"),
        (153, "", "raise `output` (1g)"),
        (1, "socket.gaierror: [Errno -3] Temporary failure in name resolution", "no network"),
        (6, "curl: (6) Could not resolve host: example.org", "no network"),
        (1, "java.net.UnknownHostException: example.org", "no network"),
        (1, "Error: getaddrinfo EAI_AGAIN example.org", "no network"),
        (1, "wget: bad address 'example.org'", "no network"),
        (137, "", "killed by SIGKILL from inside the container, or by the host's kernel"),
        (126, "[FATAL tini (7)] exec /run.sh failed: Permission denied", "RUN chmod a+rx it"),
        (127, "[FATAL tini (7)] exec /run.sh failed: No such file or directory", "not in CRLF"),
        (126, "[FATAL tini (7)] exec /run.sh failed: Exec format error", "has no #! line"),
        (3, "ValueError: no such column", ""),
        (255, "", ""),
    ],
)
def test_rule_is_named(code: int, line: str, rule: str) -> None:
    said = stopped_by(code, [line, "the end"], Limits("none", "1g"))
    assert rule in said
    assert bool(said) == bool(rule)


@pytest.mark.parametrize("killed", [False, True])
def test_success_in_spite_of_the_memory_limit_is_said(killed: bool) -> None:
    ended = ContainerOutcome(0, killed, False, "", 1.0, 2**20, 0.5, False, (), ())
    image = Image("sha256:0", "x:1", (), "/")
    outcome = summarised(image, ended, Collected(1, 1, [], 0))
    assert ("a process in it was killed at the memory limit" in outcome.notes) is killed
    assert outcome.summary["out_of_memory"] is killed


def test_network_is_no_reason_where_there_is_one() -> None:
    line = "Temporary failure in name resolution"
    assert is_offline([line])
    assert stopped_by(1, [line], Limits("bridge")) == ""
