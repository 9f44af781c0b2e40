"""A host is lost with the users' containers that ran on it: their jobs go on elsewhere."""

import json
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import docker
import pytest

from tasks.contracts import IMAGE_LABEL, JOB_ID_LABEL, UNTIL_LABEL, WORKER_LABEL
from tests.chaos.containers.waiting import generate_for, open_gate, run_until_opened
from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import Drill, rest
from tests.chaos.harness.elsewhere import OTHER, copy_of, other_host
from tests.chaos.harness.leftovers import users_containers
from tests.chaos.harness.platforms import trial_platform
from tests.chaos.harness.verdict import Check
from tests.support.engines.engine import Engine
from tests.support.platform import PATIENCE, Platform, job_image, wait_until
from tests.support.processes import frozen, supervisor, worker
from tests.support.session.on_time import OnTime
from work_pools.standby import is_standby

TARGET = 30.0  # seconds from the loss of a host to the next attempt Running
DURATION = 30  # seconds: time for a host to be lost, and missed
STARTS = 4  # to that, this often what a host takes to start: on a busy machine, all is as slow


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture that misses another host soon."""
    settings = {"PREFECTURE_AGENT_TIMEOUT": "10"}
    home = tmp_path_factory.mktemp("containers")
    with trial_platform(home, "docker", settings) as platform:
        yield platform


@pytest.mark.thorough
@pytest.mark.parametrize("time", [1, long(2), long(3)])
def test_lost(
    here: Platform, second_engine: Engine, check: Check, tmp_path: Path, time: int, on_time: OnTime
) -> None:
    drill = Drill(here, f"host lost with containers {time}")
    there = {"DOCKER_HOST": second_engine.host}
    own = worker(here)  # there will be two
    with other_host(here, tmp_path, PREFECT_WORKER_HEARTBEAT_SECONDS="2", **there) as host:
        began = monotonic()
        wait_until(lambda: OTHER in workers(here), what="the other host serves the pool")
        duration = DURATION + STARTS * round(monotonic() - began)
        with frozen(own):  # so that it takes them
            once = run_until_opened(drill, job_image(), network="bridge")
            data = generate_for(drill, job_image(), duration)
            wait_until(lambda: running(second_engine, drill) == [once, once, data], what="both run")
            wait_until(lambda: lines(here, drill), what="and one generates")
        for process in host:
            process.kill()
        second_engine.lose_power()
    death = datetime.now(UTC)
    drill.deaths |= {str(job): death for job in (once, data)}
    wait_until(lambda: len(list(drill.runs(type={"any_": ["CRASHED"]}))) == 2, what="both crashed")
    open_gate(drill)
    comes_back_and_is_tidied(here, second_engine, tmp_path / "again.log", there)
    row = check(drill)
    assert row.requeued == 2
    on_time(max(row.delays) <= TARGET, row)

    for first, second in drill.attempts().values():
        assert first["labels"][WORKER_LABEL] == OTHER != second["labels"][WORKER_LABEL]
        assert first["labels"][IMAGE_LABEL] == second["labels"][IMAGE_LABEL]
        assert first["labels"][IMAGE_LABEL].startswith("sha256:"), "the digest"
    result, manifest = published(drill, once)
    assert manifest["attempt"] == 2
    assert (result / "output" / "output.txt").read_text() == "written\n"
    assert {p.name for p in result.iterdir()} == {
        *("manifest.json", "output", "stdout.log", "stderr.log")
    }

    _, manifest = published(drill, data)
    first, second = drill.attempts()[data]
    until = first["labels"][UNTIL_LABEL]
    assert until == second["labels"][UNTIL_LABEL] == manifest["summary"]["end"]
    late = datetime.fromisoformat(second["end_time"]) - datetime.fromisoformat(until)
    assert late.total_seconds() > -1
    on_time(late.total_seconds() < 15, "for the remaining time, and not all of it again")
    (container,) = manifest["summary"]["containers"]
    assert datetime.fromisoformat(container["first"]) > death
    assert manifest["summary"]["delivered"] == container["messages"] > 0
    assert len(lines(here, drill)) > container["messages"], "what the first has delivered stays"


def comes_back_and_is_tidied(
    platform: Platform, engine: Engine, log: Path, settings: dict[str, str]
) -> None:
    """The host is started again, and its supervisor removes what stands there."""
    engine.start()
    with engine.client() as client:
        names = of_jobs(client)
        assert sum(name.startswith("prefecture-network-") for name in names) == 1
        assert len(names) == 5, "of each job the flow's and the user's, and one for the network"
        agent = copy_of(supervisor(platform), log, **settings)
        try:
            wait_until(lambda: not of_jobs(client), what="nothing is left there")
        finally:
            agent.terminate()
            agent.wait(PATIENCE)


def of_jobs(client: docker.DockerClient) -> list[str]:
    """The names of what stands there, without what waits for a job: that is the next worker's."""
    found = client.containers.list(all=True, ignore_removed=True)
    return [name for one in found if not is_standby(one.labels, [name := str(one.name)])]


def workers(platform: Platform) -> set[str]:
    """The workers of the pool that are there."""
    path = f"/work_pools/{platform.pool}/workers/filter"
    found: list[dict[str, Any]] = rest(platform, "POST", path, {})
    return {worker["name"] for worker in found if worker["status"] == "ONLINE"}


def running(engine: Engine, drill: Drill) -> list[UUID]:
    """Whose containers run on an engine: one that has a network has two."""
    with engine.client() as client:
        found = [c for c in users_containers(client, drill.jobs) if c.status == "running"]
        return sorted((UUID(c.labels[JOB_ID_LABEL]) for c in found), key=[*drill.jobs].index)


def lines(platform: Platform, drill: Drill) -> list[str]:
    """What has come to the topic of a drill."""
    paths = (platform.results / "topics" / drill.name).glob("*.ndjson")
    return [line for path in sorted(paths) for line in path.read_text().splitlines()]


def published(drill: Drill, job: UUID) -> tuple[Path, dict[str, Any]]:
    """A job's result, and its manifest."""
    folder = drill.platform.results / drill.jobs[job] / str(job)
    return folder, json.loads((folder / "manifest.json").read_text())
