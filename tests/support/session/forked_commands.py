"""Commands of `prefecture` as forks of a process that has imported Prefect.

Importing it takes a second of CPU, most of the time of a command, and the tests give hundreds. A
fork runs the same entry point, with the arguments, environment, folder and output of a command that
is started anew; Prefect reads its settings again. The commands of the documentation, and those that
get a signal, are started anew.

    python -m tests.support.session.forked_commands LISTENER
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

TREE = Path(__file__).parents[3]
_LONGEST = 2**20  # bytes of a request
_START = 600.0  # seconds for the imports


class ForkedCommands:
    """A process that runs commands in forks of itself. `command`: what starts it."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._path = str(folder / "commands")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._path)
            listener.listen(64)
            listener.set_inheritable(True)
            self._process = subprocess.Popen(
                [*command, str(listener.fileno())], cwd=TREE, pass_fds=[listener.fileno()]
            )

    def run(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises subprocess.TimeoutExpired, and ends it, after that."""
        said = json.dumps({"argv": [*command], "env": dict(env), "cwd": str(cwd or Path.cwd())})
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
            TemporaryFile() as output,
            TemporaryFile() as errors,
        ):
            connection.settimeout(_START)
            connection.connect(self._path)
            socket.send_fds(connection, [said.encode()], [output.fileno(), errors.fileno()])
            pid = int(connection.recv(32))
            connection.settimeout(timeout)
            try:
                status = int(connection.recv(32))
            except TimeoutError as error:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired([*command], timeout) from error
            texts = [_read(file) for file in (output, errors)]
        return subprocess.CompletedProcess([*command], status, *texts)


def _read(file: Any) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


@cache
def folder_of_sockets() -> TemporaryDirectory[str]:
    """A folder of this process, removed with its end; its path is short enough for a socket."""
    return TemporaryDirectory(prefix="commands-")


def serve(listener: socket.socket) -> None:
    """Run each command that is asked for, in a fork; its parent reports the process id and the
    exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the parents
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _attend(connection)
            os._exit(0)
        connection.close()


def _attend(connection: socket.socket) -> None:
    said, (output, errors), _, _ = socket.recv_fds(connection, _LONGEST, 2)
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.closerange(3, 256)
        _become(**json.loads(said))
    with suppress(BrokenPipeError):  # the test has given up, and killed it
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(argv: list[str], env: dict[str, str], cwd: str) -> None:
    """Run the command, and exit as it does."""
    from prefect.context import refresh_global_settings_context

    from deployments.cli.main import main

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    refresh_global_settings_context()
    main()
    sys.exit()


if __name__ == "__main__":
    from deployments.cli.main import make_app

    make_app(())  # imports all commands
    for module in ("prefect.client.orchestration", "prefect.events.clients"):
        import_module(module)
    serve(socket.socket(fileno=int(sys.argv[1])))
