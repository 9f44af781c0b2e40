"""A whole Prefecture on this machine, started by its own command, as a user would."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from tests.support.migrated import one_at_a_time, put_database
from tests.support.needs import need_docker
from tests.support.session.environment import PASSWORD
from tests.support.session.forked_commands import ForkedCommands, folder_of_sockets

BIN = Path(sys.executable).parent
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PATIENCE = 480.0  # seconds, for what takes some on a quiet machine
_START = 600.0  # seconds; the first start on Docker may build the image
_POLL = 0.2  # seconds between two questions to a server that has work to do
# Replaces itself by the command that follows, which is asked to end should the tests be killed. Not
# a preexec_fn: Python 3.12 warns of that where a test has threads.
_ENDS_WITH_US = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the tests have ended")
os.execv(sys.argv[2], sys.argv[2:])
"""

_LONGEST_PAUSE = 2.0  # seconds between two looks
_PAUSE_SHARE = 0.3  # of the time waited so far


def wait_until(
    condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "", every: float = 0.1
) -> Any:
    """The condition's first true value, looked for at intervals of `every` seconds.

    The longer it takes, the longer the intervals become: each look costs a server 10 ms, and four
    tests that look ten times a second take a fifth of two cores. Fails the test when it takes
    longer than `timeout`, which is far more than it takes on a machine that has much else to do: no
    test is to ask a speed.
    """
    began = time.monotonic()
    while (waited := time.monotonic() - began) < timeout:
        value = condition()
        if value:
            return value
        time.sleep(max(every, min(_LONGEST_PAUSE, waited * _PAUSE_SHARE)))
    raise AssertionError(f"not within {timeout:.0f} s: {what or condition}")


def ends_with_us(*command: str) -> list[str]:
    """A command that gets SIGTERM when this process ends, however it ends."""
    return [sys.executable, "-c", _ENDS_WITH_US, str(os.getpid()), *command]


def free_port() -> int:
    """A TCP port that nothing listens on now, and that no other process is given soon.

    Not one of the kernel's choice: until a server has started there, which takes seconds, the
    kernel may give it to a connection or to another server, which would then answer in its place.
    """
    return next(port for port in _ports() if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


@cache
def _ports() -> Iterator[int]:
    """Below those of the kernel, which begin with 32,768: each process of the tests has its own."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = [*range(10_000 + number, 20_000, count)]
    # Several runs of the tests may be on this machine, and `up` takes a port beside a server's.
    random.Random(os.getpid()).shuffle(own)
    return cycle(own)


@cache
def http() -> httpx.Client:
    """A client for loopback: one, for to make another reads every certificate that it trusts.

    It keeps no connection, so that a server that is killed between two requests is no error.
    """
    user, _, password = PASSWORD.partition(":")
    return httpx.Client(
        auth=(user, password), timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
    )


@cache
def job_image() -> str:
    """The image of this tree's jobs on the machine's engine, built where there is none.

    By one process at a time: the engine builds for each that asks, and they would ask together.
    """
    with one_at_a_time():
        command = [str(BIN / "prefecture"), "image"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def rest(api: str, method: str, path: str, body: Any = None) -> httpx.Response:
    """One request to a server's API, a passing 503 of SQLite's retried."""
    for _ in range(10):
        response = http().request(method, api + path, json=body)
        if response.status_code != 503:
            return response
        time.sleep(0.2)
    raise AssertionError(f"{method} {path}: 503, ten times")


def post(api: str, path: str, **body: object) -> dict[str, Any]:
    """What a server's API answers to a POST that must succeed."""
    answer = rest(api, "POST", path, body)
    assert answer.is_success, answer.text
    return answer.json()


def is_ready(api: str) -> bool:
    """Whether a Prefect server answers at this address."""
    return answers(f"{api}/ready")


def answers(url: str) -> bool:
    """Whether a GET of this address succeeds now."""
    try:
        return http().get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def run_command(
    *words: str, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`prefecture` or `prefect` with the words that follow, in an environment."""
    command = [str(BIN / words[0]), *words[1:]]
    if words[0] == "prefecture":
        return _commands().run(command, env, cwd, PATIENCE)
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@cache
def _commands() -> ForkedCommands:
    program = ends_with_us(sys.executable, "-m", "tests.support.session.forked_commands")
    return ForkedCommands(program, Path(folder_of_sockets().name))


@dataclass
class Platform:
    """A running `prefecture up` and how to talk to it."""

    pool: str
    home: Path
    port: int
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    @property
    def api(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def ui(self) -> str:
        """The UI's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def inputs(self) -> Path:
        """The inputs root."""
        return self.home / "inputs"

    @property
    def results(self) -> Path:
        """The results root."""
        return self.home / "results"

    @property
    def output(self) -> str:
        """What `up` has printed so far."""
        return (self.home / "up.out").read_text()

    def rest(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request to the API, as `rest` does it."""
        return rest(self.api, method, path, body)

    def deployment(self, name: str) -> str:
        """The id of a deployment such as `find-primes/low`."""
        return str(self.rest("GET", f"/deployments/name/{name}").json()["id"])

    def create(self, deployment: str, **body: Any) -> httpx.Response:
        """POST create_flow_run for a deployment, as curl would."""
        return self.rest(
            "POST", f"/deployments/{self.deployment(deployment)}/create_flow_run", body
        )

    def submit_job(self, deployment: str, payload: Mapping[str, Any], directory: str) -> UUID:
        """A job that must be accepted, over REST."""
        parameters = {"payload": dict(payload), "results_directory": directory}
        response = self.create(deployment, parameters=parameters)
        assert response.status_code == 201, response.text
        return UUID(response.json()["id"])

    def run(self, job: UUID) -> dict[str, Any]:
        """A flow run, as the API returns it."""
        return self.rest("GET", f"/flow_runs/{job}").json()

    def ended(self, job: UUID, timeout: float = PATIENCE) -> dict[str, Any]:
        """The flow run of a job once it is in a final state."""

        def look() -> dict[str, Any] | None:
            run = self.run(job)
            return run if run["state_type"] in FINAL else None

        return wait_until(look, timeout, f"job {job} ended", _POLL)

    def completed(self, job: UUID, directory: str, timeout: float = PATIENCE) -> Path:
        """The folder of a job's result, once the job has completed."""
        run = self.ended(job, timeout)
        assert run["state_type"] == "COMPLETED", run["state"]["message"]
        return self.results / directory / str(job)

    def manifest(self, job: UUID, directory: str) -> dict[str, Any]:
        """The manifest of a completed job."""
        return json.loads((self.completed(job, directory) / "manifest.json").read_text())

    def artifacts(self, job: UUID, kind: str) -> list[dict[str, Any]]:
        """The artifacts of one type that a run has made."""
        filter = {"artifacts": {"flow_run_id": {"any_": [str(job)]}, "type": {"any_": [kind]}}}
        return self.rest("POST", "/artifacts/filter", filter).json()

    def command(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`prefecture` or `prefect` with the words that follow, against this server."""
        return run_command(*words, env=self.environment | {"PREFECT_API_URL": self.api}, cwd=folder)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to `up` and wait for its end. Returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def pause(platform: Platform) -> Generator[None]:
    """While the block runs, the worker takes no job of the pool."""
    platform.rest("PATCH", f"/work_pools/{platform.pool}", {"is_paused": True})
    try:
        yield
    finally:
        platform.rest("PATCH", f"/work_pools/{platform.pool}", {"is_paused": False})


@contextmanager
def platform_up(
    home: Path,
    pool: str,
    slots: int = 2,
    ready: str = "ready",
    settings: Mapping[str, str] | None = None,
    most: int | None = None,
) -> Generator[Platform]:
    """`prefecture up` in a home of its own, stopped at the end if it still runs.

    The block starts when `up` has printed `ready`, or, for "server", when its server is starting.
    """
    image = ""
    if pool == "docker":
        need_docker()
        image = job_image()
    home.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ) | {"PREFECTURE_HOME": str(home)} | dict(settings or {})
    environment |= {"PREFECT_HOME": str(home / "client"), "DO_NOT_TRACK": "1"}
    # Two seconds of a CPU, each minute, that most tests have no use for.
    environment.setdefault("PREFECTURE_ANALYTICS", "false")
    environment.setdefault("PREFECTURE_GATEWAY_PORT", "0")  # as many at each start
    if not any(name.startswith("PREFECT_SERVER_DATABASE_") for name in environment):
        put_database(home, pool, image)
        # The block types are in it: to compare them takes a server half a second of a CPU.
        environment.setdefault("PREFECT_SERVER_BLOCKS_REGISTER_ON_START", "false")
        environment.setdefault("PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION", "false")
    port = free_port()
    with (home / "up.out").open("wb") as output:
        process = subprocess.Popen(
            ends_with_us(
                *(str(BIN / "prefecture"), "up", "--pool", pool),
                *("--workers", str(slots), "--port", str(port)),
                *(() if most is None else ("--most", str(most))),
            ),
            env=environment,
            stdout=output,
            stderr=output,
        )
    platform = Platform(pool, home, port, process, environment)
    try:
        log = home / "logs" / "server.log"
        wait_until(
            lambda: (
                (log.exists() if ready == "server" else ready in platform.output)
                or process.poll() is not None
            ),
            _START,
            f"up on {pool} is ready",
        )
        assert process.poll() is None, platform.output
        yield platform
    finally:
        if process.poll() is None:
            platform.stop()
