"""Several hosts, and unwell ones: real server and supervisor; the other hosts speak over REST."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.contracts import AGENT_VARIABLES
from tests.support.other_hosts import report
from tests.support.platform import Platform, pause, platform_up, wait_until

pytestmark = pytest.mark.thorough

SMALL = {"upper_bound": 100}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture that soon takes silence for an end."""
    with platform_up(
        tmp_path_factory.mktemp("host"), "process", settings={"PREFECTURE_AGENT_TIMEOUT": "5"}
    ) as platform:
        wait_until(lambda: agents(platform), what="its agent reports")
        yield platform


def agents(platform: Platform) -> dict[str, dict[str, Any]]:
    wanted = {"variables": {"name": {"like_": f"{AGENT_VARIABLES}%"}}}
    found = platform.rest("POST", "/variables/filter", wanted).json()
    return {entry["value"]["worker"]: entry["value"] for entry in found}


def own(platform: Platform) -> dict[str, Any]:
    (worker,) = (name for name in agents(platform) if name.startswith("prefecture-"))
    return agents(platform)[worker]


def is_paused(platform: Platform) -> bool:
    return platform.rest("GET", f"/work_pools/{platform.pool}").json()["is_paused"]


def held_by(platform: Platform, worker: str, state: str) -> UUID:
    """A run that another host's worker has taken."""
    with pause(platform):
        run = platform.create(
            "find-primes/low",
            parameters={"payload": SMALL, "results_directory": "elsewhere"},
            labels={"prefect.worker.name": worker},
        ).json()["id"]
        for step in ("PENDING", "RUNNING")[: 1 + (state == "RUNNING")]:
            body = {"state": {"type": step}, "force": True}
            assert platform.rest("POST", f"/flow_runs/{run}/set_state", body).is_success
    return UUID(run)


def successor(platform: Platform, job: UUID) -> dict[str, Any] | None:
    keys = {"flow_runs": {"idempotency_key": {"any_": [f"requeue:{job}:2"]}}}
    found = platform.rest("POST", "/flow_runs/filter", keys).json()
    return found[0] if found else None


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_jobs_of_a_host_that_is_gone_run_again(host: Platform, state: str) -> None:
    job = held_by(host, f"ghost-{state.lower()}", state)
    lost = host.ended(job)
    assert lost["state_type"] == "CRASHED"
    assert lost["state"]["message"] == "lost: its host is gone"
    again = wait_until(lambda: successor(host, job), what="a second attempt")
    assert again["work_queue_name"] == "high"
    done = host.ended(UUID(again["id"]))
    assert done["state_type"] == "COMPLETED"
    assert (host.results / "elsewhere" / str(job) / "manifest.json").is_file()


def test_jobs_of_a_host_that_speaks_are_left_alone(host: Platform) -> None:
    report(host.api, "neighbour")
    job = held_by(host, "neighbour", "RUNNING")
    started = datetime.now(UTC)

    def long_enough() -> bool:
        report(host.api, "neighbour")
        assert host.run(job)["state_type"] == "RUNNING"
        return (datetime.now(UTC) - started).total_seconds() > 12  # more than twice the timeout

    wait_until(long_enough)
    # And it falls silent.
    assert host.ended(job)["state"]["message"] == "lost: its host is gone"
    wait_until(lambda: "neighbour" not in agents(host), what="no trace of it")


def idle(host: Platform) -> None:
    """Wait until no run is left that is to run: a test before may have left one."""
    active = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}}
    wait_until(lambda: not host.rest("POST", "/flow_runs/count", active).json(), what="idle")


@contextmanager
def unwell(host: Platform) -> Generator[None]:
    """A disk that results cannot be written to, as far as this host can tell."""
    idle(host)
    staging: Path = host.results / ".staging"
    staging.rename(host.results / ".away")
    staging.touch()
    try:
        yield
    finally:
        staging.unlink()
        (host.results / ".away").rename(staging)


def said(host: Platform, event: str) -> list[dict[str, Any]]:
    wanted = {"filter": {"event": {"name": [event]}}}
    return host.rest("POST", "/events/filter", wanted).json()["events"]


def test_an_unwell_host_holds_the_intake_until_it_is_well(host: Platform) -> None:
    with unwell(host):
        wait_until(lambda: is_paused(host), what="the intake is held")
        agent = wait_until(lambda: own(host)["holds_intake"] and own(host))
        assert agent["failed"].keys() <= {"results disk"}
        waiting = host.submit_job("find-primes/high", SMALL, "patient")
        events = wait_until(lambda: said(host, "prefecture.agent.unhealthy"))
        assert "cannot be written" in events[0]["payload"]["failed"]["results disk"]
        assert events[0]["payload"]["host"] == agent["host"]
        assert host.run(waiting)["state_type"] == "SCHEDULED"
    host.completed(waiting, "patient")
    assert not is_paused(host)
    assert said(host, "prefecture.agent.healthy")


def test_a_pool_that_a_person_paused_stays_so(host: Platform) -> None:
    idle(host)
    with pause(host):
        with unwell(host):
            wait_until(lambda: own(host)["failed"], what="unwell")
        wait_until(lambda: not own(host)["failed"], what="well again")
        assert is_paused(host)


def test_the_intake_that_a_lost_host_held_is_resumed(host: Platform) -> None:
    report(host.api, "gone-while-unwell", holds_intake=True)
    host.rest("PATCH", f"/work_pools/{host.pool}", {"is_paused": True})
    wait_until(lambda: not is_paused(host), what="the intake is resumed")


def test_a_stopped_agent_leaves_no_trace_and_no_pause(home: Path) -> None:
    with platform_up(home, "process") as platform:
        wait_until(lambda: agents(platform), what="its agent reports")
        log = platform.home / "logs" / "supervisor.log"
        assert platform.stop() == 0
        assert "Traceback" not in log.read_text()
