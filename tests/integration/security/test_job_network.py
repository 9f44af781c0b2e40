"""The closed network of jobs, tried from inside: the API is reached, and nothing else."""

import json
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.run_container.jobs import real, shell
from tests.support.containers import engine
from tests.support.platform import Platform, platform_up, wait_until
from tests.support.processes import worker
from work_pools.standby import LABEL, is_standby

pytestmark = pytest.mark.thorough

REACH = """
import json, socket, sys
def reach(host, port):
    try:
        socket.create_connection((host, int(port)), 3).close()
        return True
    except OSError:
        return False
print(json.dumps({at: reach(*at.rsplit(":", 1)) for at in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def listed() -> Generator[int]:
    """The port of a server on this host's loopback that the setting lists."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, listed: int) -> Generator[Platform]:
    """A Prefecture whose jobs are in the closed network, as they are by default."""
    settings = {"PREFECTURE_JOB_HOSTS": f"localhost:{listed}"}
    with platform_up(tmp_path_factory.mktemp("closed"), "docker", settings=settings) as platform:
        yield platform


def standby(platform: Platform) -> Any:
    """A container of this platform that waits for a job."""
    with engine(platform) as client:
        for one in client.containers.list(filters={"label": LABEL}, ignore_removed=True):
            mounted = str(platform.home) in str(one.attrs["Mounts"])
            if mounted and is_standby(one.labels, [str(one.name)]):
                return one
    return None


def test_only_the_api_and_listed_hosts_are_reached(closed: Platform, listed: int) -> None:
    up = closed
    assert up.completed(up.submit_job("find-primes/normal", {"upper_bound": 100}, "a"), "a")
    with socket.create_server(("127.0.0.1", 0)) as server:
        loopback = server.getsockname()[1]
        container = wait_until(lambda: standby(up), what="a container waits")
        environment = dict(one.split("=", 1) for one in container.attrs["Config"]["Env"])
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        api = environment["PREFECT_API_URL"].removeprefix("http://").removesuffix("/api")
        host, _, relayed = environment["PREFECTURE__JOB_HOSTS"].partition("=")
        assert host == f"localhost:{listed}"
        reached = [api, f"{network['Gateway']}:{relayed}"]
        barred = [
            *(f"127.0.0.1:{port}" for port in (loopback, up.port)),
            *(f"{network['Gateway']}:{port}" for port in (loopback, listed, up.port)),
            *("169.254.169.254:80", "1.1.1.1:443"),
        ]
        with other_job(up, container) as other:
            barred.append(f"{other}:4000")
            done = container.exec_run(["python", "-c", REACH, *reached, *barred])
    found: dict[str, bool] = json.loads(done.output)
    assert found == dict.fromkeys(reached, True) | dict.fromkeys(barred, False)


@contextmanager
def other_job(platform: Platform, container: Any) -> Generator[str]:
    """The address of another container in the network, in which something listens at port 4000."""
    listen = "import socket, time; s = socket.create_server(('', 4000)); print(1, flush=True); "
    with engine(platform) as client:
        other: Any = client.containers.run(
            container.image.id,
            ["python", "-c", f"{listen}time.sleep(600)"],
            network="prefecture-jobs",
            detach=True,
        )
        try:
            wait_until(other.logs, what="it listens")
            other.reload()
            (network,) = other.attrs["NetworkSettings"]["Networks"].values()
            address = str(network["IPAddress"])
            done = other.exec_run(["python", "-c", REACH, f"{address}:4000"])
            assert json.loads(done.output) == {f"{address}:4000": True}
            yield address
        finally:
            other.remove(force=True)


def test_a_job_that_starts_containers_is_inside_too(closed: Platform) -> None:
    """And its own container reaches a name server, through routes that the broker has set."""
    payload = real(shell("getent hosts localhost > /output/found; sleep 2", network="bridge"))
    job = closed.submit_job("run-container/normal", payload, "d")
    with engine(closed) as client:
        wanted: dict[str, str | list[str] | bool] = {"label": f"io.prefect.flow-run-id={job}"}

        def flow() -> Any:
            found = client.containers.list(filters=wanted, ignore_removed=True)
            return next((one for one in found if one.labels.get("prefecture") == "job"), None)

        container = wait_until(flow, what="its flow runs")
        assert list(container.attrs["NetworkSettings"]["Networks"]) == ["prefecture-jobs"]
    assert (closed.completed(job, "d") / "output" / "found").read_text()


def test_job_goes_on_without_its_worker(closed: Platform) -> None:
    up = closed
    job = up.submit_job("find-primes/normal", {"upper_bound": 10**9}, "b")
    wait_until(lambda: up.run(job)["state_type"] == "RUNNING", what="it runs")
    worker(up).kill()
    assert up.manifest(job, "b")["attempt"] == 1
    # The relay is still there. The next worker has another.
    assert up.completed(up.submit_job("find-primes/normal", {"upper_bound": 100}, "c"), "c")
