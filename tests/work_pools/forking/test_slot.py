"""The fork server of a container: real containers, of a program in the place of Prefect's engine.

With the engine it is tested in tests/work_pools/worker/test_standby_container.py.
"""

import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from tests.support.needs import need_docker
from tests.support.platform import job_image
from work_pools.standby import NO_RUN, run_of
from work_pools.worker.containers.standby_container import Standby

# A fork does what its run's variable DO says; it ends well where nothing is raised.
_SERVER = """
import ctypes, os, signal, subprocess, sys, tempfile, time
from pathlib import Path
from work_pools.forking.slot import serve_runs
ended_well = serve_runs()
exec(os.environ["DO"])
ended_well()
"""


class Container:
    """A container that waits, and what has become of its last run."""

    def __init__(self, client: docker.DockerClient, results: Path) -> None:
        self.api: Any = client.api
        self.standby = Standby(
            client,
            {
                "image": job_image(),
                "command": ["python", "-c", _SERVER],
                "environment": {"PREFECT__FLOW_RUN_ID": str(NO_RUN)},
                "labels": {},
                "user": "10001:10001",
                "read_only": True,
                "init": True,
                "mem_limit": "256m",
                "memswap_limit": "256m",
                "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777"},
                "volumes": {str(results): {"bind": "/tmp/the home/results", "mode": "rw"}},
            },
        )

    def serve(self, do: str, last: bool = False, **variables: str) -> int | None:
        """Have it serve a run that executes `do`. Returns the container's exit code; None where it
        waits for another."""
        run = uuid4()
        self.standby.assign(run, "job", {"DO": do, **variables}, last)
        assert self.run() == run
        code = self.standby.follow(run)
        assert (code is None) == (self.run() is None)
        return code

    def run(self) -> object:
        """The flow run that it is of, as everybody finds it."""
        details = self.api.inspect_container(self.standby.id)
        return run_of(details["Config"]["Labels"], [details["Name"]])

    def state(self) -> dict[str, Any]:
        """As the engine has it."""
        return self.api.inspect_container(self.standby.id)["State"]


@pytest.fixture
def container(tmp_path: Path) -> Generator[Container]:
    need_docker()
    client = docker.from_env()
    tmp_path.chmod(0o777)
    container = Container(client, tmp_path)
    yield container
    container.standby.remove()
    client.close()


# What a run could leave behind, and how the next would find it.
_TRACES = {
    "a file": ("Path('/tmp/a').write_text('x')", "assert not Path('/tmp/a').exists()"),
    "a folder": (
        "Path('/tmp/.b/c').mkdir(parents=True); Path('/tmp/.b/c/d').symlink_to('/')",
        "assert not Path('/tmp/.b').exists()",
    ),
    "shared memory": (
        "Path('/dev/shm/e').write_text('x')",
        "assert os.listdir('/dev/shm') == []",
    ),
    "shared memory of System V": (
        "assert ctypes.CDLL(None).shmget(17, 4096, 0o1600) >= 0",
        "assert ctypes.CDLL(None).shmget(17, 4096, 0o600) == -1",
    ),
    "a variable": ("os.environ['F'] = 'x'", "assert 'F' not in os.environ"),
    "a module": (
        "Path('/tmp/left.py').write_text(''); sys.path.insert(0, '/tmp'); import left",
        "assert 'left' not in sys.modules and '/tmp' not in sys.path",
    ),
    "the folder it works in": ("os.chdir('/tmp')", "assert os.getcwd() == '/opt/prefecture'"),
    "an open file": (
        "kept = open('/tmp/g', 'w')",
        "assert len(os.listdir('/proc/self/fd')) == 5, os.listdir('/proc/self/fd')",
    ),
    "a child": (
        "subprocess.Popen(['sleep', '600'])",
        "assert subprocess.run(['pgrep', 'sleep']).returncode != 0",
    ),
    "a daemon": (
        "subprocess.run(['sh', '-c', 'setsid sleep 601 >/dev/null 2>&1 &'], check=True)",
        "assert not [p for p in Path('/proc').glob('[0-9]*') if b'sleep' in (p / 'cmdline')"
        ".read_bytes()]",
    ),
    "a signal that is ignored": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL",
    ),
}


def test_a_run_finds_nothing_of_the_one_before(container: Container) -> None:
    for name, (leave, look) in _TRACES.items():
        if name != "a child":  # there is no pgrep in the image: the daemon's look finds both
            assert container.serve(leave) is None, name
            assert container.serve(look) is None, name
    assert container.serve(_TRACES["a child"][0]) is None
    assert container.serve(_TRACES["a daemon"][1]) is None


def test_what_is_mounted_stays(container: Container, tmp_path: Path) -> None:
    assert container.serve("Path('/tmp/the home/results/published').write_text('x')") is None
    assert (tmp_path / "published").read_text() == "x"
    assert container.serve("assert os.listdir('/tmp/the home/results') == ['published']") is None


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("sys.exit(3)", 3),
        ("sys.exit(0)", 0),  # not as one that ended well: Prefect's engine was to abort
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("raise ValueError('a traceback')", 1),
    ],
)
def test_one_that_does_not_end_well_ends_the_container(
    container: Container, do: str, code: int
) -> None:
    assert container.serve("pass") is None
    assert container.serve(do) == code
    assert not container.state()["OOMKilled"]


def test_out_of_memory_ends_the_container(container: Container) -> None:
    assert container.serve("bytearray(2**26)") is None
    assert container.serve("held = bytearray(b'x') * 2**30") == 128 + signal.SIGKILL
    assert container.state()["OOMKilled"]


def test_the_last_ends_the_container(container: Container) -> None:
    assert container.serve("assert 'PREFECTURE__SHARED_CONTAINER' in os.environ") is None
    look = "assert 'PREFECTURE__SHARED_CONTAINER' in os.environ"
    assert container.serve(look, last=True) == 0


def test_one_that_is_alone_knows(container: Container) -> None:
    look = "assert 'PREFECTURE__SHARED_CONTAINER' not in os.environ"
    assert container.serve(look, last=True) == 0


def test_what_cannot_be_removed_ends_the_container(container: Container) -> None:
    leave = "Path('/tmp/a/b').mkdir(parents=True); Path('/tmp/a').chmod(0)"
    assert container.serve(leave) == 0


def test_sigterm_is_for_the_run(container: Container) -> None:
    container.standby.assign(
        uuid4(), "job", {"DO": "print('begun', flush=True); time.sleep(600)"}, False
    )
    logs = container.api.logs(container.standby.id, stream=True, follow=True)
    assert next(logs).strip() == b"begun"
    container.api.kill(container.standby.id, signal="SIGTERM")
    assert list(logs) == []
    assert container.api.wait(container.standby.id)["StatusCode"] == 128 + signal.SIGTERM


def test_it_ends_after_its_run_where_the_worker_is_gone(container: Container) -> None:
    container.standby.assign(
        uuid4(), "job", {"DO": "print('begun', flush=True); time.sleep(0.1)"}, False
    )
    container.standby.detach()
    assert container.api.wait(container.standby.id)["StatusCode"] == 0
    assert container.api.logs(container.standby.id).startswith(b"begun")


def test_a_job_cannot_pass_for_one_that_has_ended(container: Container) -> None:
    run = uuid4()
    fake = (
        'print(\'\\x1e\' + \'{"event": "ended", "run": "another"}\\n\\x1e[]\\n\\x1e\', flush=True)'
    )
    container.standby.assign(run, "job", {"DO": f"{fake}; sys.exit(5)"}, False)
    assert container.standby.follow(run) == 5
