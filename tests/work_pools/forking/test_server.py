"""The fork server of the pool `process`: real forks, of a program in the place of Prefect's engine.

With the engine it is tested in tests/work_pools/worker/test_fork_server.py.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from tests.support.platform import wait_until
from work_pools.standby import NO_RUN

# A fork does what its run's variable DO says.
_SERVER = """
import os, signal, subprocess, sys
from pathlib import Path
import numpy.random
from work_pools.forking.server import serve_runs
if serve_runs():
    exec(os.environ["DO"])
"""
_TREE = Path(__file__).parents[3]
# Like a daemon: in a session of its own, and its parent ends.
_DAEMON = (
    "child = subprocess.Popen(['sh', '-c', 'setsid sleep 600 & echo $!'], stdout=subprocess.PIPE)"
)


class Server:
    """A fork server, and what it reports."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _SERVER],
                cwd=_TREE,
                env={
                    "PATH": os.environ["PATH"],
                    "PREFECT__FLOW_RUN_ID": str(NO_RUN),
                    "OPENBLAS_NUM_THREADS": "1",  # numpy's library would start one for each core
                },
                stdin=theirs.fileno(),
            )
        self._reports = self._socket.makefile("rb")

    def ask(self, do: str, folder: Path | None = None, **variables: str) -> UUID:
        """Ask for a run that executes `do`."""
        run = uuid4()
        request: dict[str, Any] = {"run": str(run), "variables": {"DO": do, **variables}}
        if folder:
            request["folder"] = str(folder)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        return run

    def report(self) -> dict[str, Any]:
        """The next."""
        return json.loads(self._reports.readline())

    def let_go(self) -> None:
        """As where the worker has ended."""
        self._reports.close()
        self._socket.close()


@pytest.fixture
def server() -> Generator[Server]:
    running = Server()
    yield running
    running.let_go()
    running.process.kill()
    running.process.wait()


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("raise ValueError('a traceback, and the exit code of one')", 1),
    ],
)
def test_it_reports_how_each_run_ends(server: Server, do: str, code: int) -> None:
    run = str(server.ask(do))
    started, ended = server.report(), server.report()
    assert (started["event"], started["run"]) == ("started", run)
    assert (ended["event"], ended["run"], ended["code"]) == ("ended", run, code)
    assert ended["peak_memory"] > 2**20
    assert not psutil.pid_exists(started["pid"])


def test_no_two_runs_draw_the_same_random_numbers(server: Server, tmp_path: Path) -> None:
    draw = "import random; Path({!r}).write_text(f'{{random.random()}} {{numpy.random.random()}}')"
    drawn: list[str] = []
    for number in range(2):
        server.ask(draw.format(str(tmp_path / str(number))))
        server.report()
        assert server.report()["code"] == 0
        drawn += (tmp_path / str(number)).read_text().split()
    assert len({*drawn}) == 4


def test_many_runs_at_once(server: Server, tmp_path: Path) -> None:
    gates = [tmp_path / str(number) for number in range(3)]
    for gate in gates:
        os.mkfifo(gate)
    runs = {str(server.ask(f"open({str(gate)!r}).read()")) for gate in gates}
    assert {server.report()["run"] for _ in runs} == runs
    for gate in gates:
        gate.write_text("")  # each run was waiting for its gate to be opened
    ended = [server.report() for _ in runs]
    assert {one["run"] for one in ended} == runs
    assert {one["code"] for one in ended} == {0}


def test_a_run_has_its_own_environment_folder_and_session(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    look = (
        "import json, tempfile; Path('seen').write_text(json.dumps({'cwd': os.getcwd(),"
        " 'temporary': tempfile.gettempdir(), 'leader': os.getsid(0) == os.getpid(),"
        " 'stdin': sys.stdin.read(), 'open': os.listdir('/proc/self/fd'),"
        " 'score': Path('/proc/self/oom_score_adj').read_text(),"
        " 'environment': dict(os.environ)}))"
    )
    run = server.ask(look, folder, COLOR="red")
    server.report()
    assert server.report()["code"] == 0
    seen = json.loads((folder / "seen").read_text())
    assert seen["cwd"] == seen["temporary"] == str(folder)
    assert seen["leader"]
    assert seen["stdin"] == ""
    assert int(seen["score"]) == 500
    assert seen["environment"]["COLOR"] == "red"
    assert seen["environment"]["PREFECT__FLOW_RUN_ID"] == str(run)
    # Standard input, output and error, and the folder that was listed: nothing of the server's.
    assert len(seen["open"]) == 4
    after = server.ask("assert 'COLOR' not in os.environ")
    server.report()
    assert server.report() | {"peak_memory": 0} == {
        "event": "ended",
        "run": str(after),
        "code": 0,
        "peak_memory": 0,
    }


@pytest.mark.parametrize(
    "leave", ["child = subprocess.Popen(['sleep', '600'], stdout=subprocess.PIPE)", _DAEMON]
)
def test_what_a_run_leaves_behind_is_killed(server: Server, leave: str, tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    note = f"Path({str(noted)!r}).write_text(str({{}}))"
    pid = "int(child.stdout.readline())" if leave is _DAEMON else "child.pid"
    server.ask(f"{leave}; {note.format(pid)}; os._exit(0)")
    server.report()
    assert server.report()["code"] == 0
    left = int(noted.read_text())
    wait_until(lambda: not psutil.pid_exists(left), what="it is killed, and waited for")


def test_what_a_run_leaves_behind_does_not_end_another(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    stays = str(server.ask(f"open({str(gate)!r}).read()"))
    server.report()
    server.ask("pass")
    assert [server.report()["event"] for _ in range(2)] == ["started", "ended"]
    with gate.open("w"):
        pass
    ended = server.report()
    assert (ended["run"], ended["code"]) == (stays, 0)


def test_it_ends_after_its_last_run_where_the_worker_is_gone(
    server: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    server.ask(f"open({str(gate)!r}).read()")
    started = server.report()
    server.let_go()
    assert psutil.pid_exists(started["pid"])
    with gate.open("w"):
        pass
    assert server.process.wait(240) == 0
    assert not psutil.pid_exists(started["pid"])


def test_what_is_imported_before_the_fork_starts_no_thread() -> None:
    look = (
        "import os, sys; from work_pools.entrypoint.flow_engine import import_before_fork;"
        " import_before_fork();"
        " assert {'prefect.flow_engine', 'numpy', 'pyarrow', 'pyvips'} <= {*sys.modules};"
        " print(len(os.listdir('/proc/self/task')), 'OPENBLAS_NUM_THREADS' in os.environ)"
    )
    command = [sys.executable, "-c", look]
    done = subprocess.run(command, cwd=_TREE, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
