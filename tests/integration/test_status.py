"""`prefecture status`: agents, paused pools, and each job once."""

import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.jobs.following import read_progress
from tasks.contracts import ATTEMPT_LABEL, JOB_ID_LABEL, AgentReport, requeue_key
from tasks.history.backlog import read_backlog
from tests.support.platform import BIN, Platform, pause, run_command, wait_until

# Of no pool of ours: no supervisor believes it and holds or resumes anything.
ELSEWHERE: dict[str, Any] = {"pool": "elsewhere", "failed": {}, "running": 3, "holds_intake": True}


def status(platform: Platform) -> str:
    """What the command shows. On a busy machine it may take longer than an agent may be silent."""
    environment = {"PREFECT_API_URL": platform.api, "PREFECTURE_AGENT_TIMEOUT": "3600"}
    done = run_command("prefecture", "status", env=platform.environment | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def line_with(text: str, *words: str) -> str:
    """The one line that holds all the words."""
    (found,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return " ".join(found.split())


def report(platform: Platform, name: str, **more: Any) -> AgentReport:
    """Have an agent of that name report."""
    own = {"host": name, "worker": name, "at": datetime.now(UTC)}
    said = AgentReport.model_validate(own | ELSEWHERE | more)
    body = {"name": said.variable, "value": said.model_dump(mode="json")}
    platform.rest("POST", "/variables/", body).raise_for_status()
    return said


def forget(platform: Platform, variable: str) -> None:
    platform.rest("DELETE", f"/variables/name/{variable}").raise_for_status()


def test_the_agent_of_this_host(platform: Platform) -> None:
    def line() -> str | None:
        found = [
            line.split() for line in status(platform).splitlines() if line.rstrip().endswith("ago")
        ]
        return next((" ".join(words) for words in found if words[1] == platform.pool), None)

    shown = wait_until(line, what="the agent has reported")
    assert " healthy " in shown


def test_the_server_of_the_same_home_is_found(process_platform: Platform) -> None:
    """Another terminal need not know the port."""
    environment = process_platform.environment.copy()
    environment.pop("PREFECT_API_URL", None)
    command = [str(BIN / "prefecture"), "status"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "process" in shown.stdout
    address = (process_platform.home / "api_url").read_text()
    assert address == process_platform.api


def test_what_agents_say(process_platform: Platform) -> None:
    well = report(process_platform, "host-a")
    ill = report(
        process_platform,
        "host-b",
        failed={"engine": "does not answer: start it", "memory": "1 MiB available"},
        # A clock that is an hour off: how long ago it spoke is measured by the server's.
        at=datetime.now(UTC) - timedelta(hours=1),
    )
    stranger = {"name": "prefecture_agent_of_someone", "value": "no report"}
    process_platform.rest("POST", "/variables/", stranger).raise_for_status()
    try:
        shown = status(process_platform)
    finally:
        for variable in (well.variable, ill.variable, stranger["name"]):
            forget(process_platform, variable)
    assert line_with(shown, "host-a").startswith("host-a elsewhere host-a healthy 3 paused by it ")
    first = line_with(shown, "host-b", "engine: does not answer: start it")
    assert float(first.removesuffix(" s ago").rpartition(" ")[2]) < 1800
    assert line_with(shown, "memory: 1 MiB available")
    assert "someone" not in shown


@pytest.mark.thorough
def test_a_paused_pool(process_platform: Platform) -> None:
    assert "is paused" not in status(process_platform)
    with pause(process_platform):
        assert line_with(status(process_platform), "Pool process is paused").endswith(
            "resume it with: prefect work-pool resume process"
        )


@pytest.mark.thorough
def test_a_pool_that_an_agent_holds(process_platform: Platform) -> None:
    with pause(process_platform):
        agent = report(
            process_platform, "host-c", pool="process", failed={"memory": "1 MiB available"}
        )
        try:
            shown = status(process_platform)
        finally:
            forget(process_platform, agent.variable)
    assert "the agent on host-c resumes it once its checks pass" in line_with(shown, "is paused")


def test_how_long_a_job_has_waited(process_platform: Platform) -> None:
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/high", {"upper_bound": 10}, "waits")

        def waits() -> bool:
            row = line_with(status(process_platform), str(job))
            assert "Scheduled" in row or "Late" in row
            return not row.endswith("0.0 s 0.0 s")

        wait_until(waits, what="it has waited")
    process_platform.completed(job, "waits")


def test_each_job_once_with_its_latest_attempt(process_platform: Platform) -> None:
    parameters = {"payload": {"upper_bound": 10}, "results_directory": "status"}
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/normal", {"upper_bound": 10}, "status")
        crash = {"state": {"type": "CRASHED"}, "force": True}
        process_platform.rest("POST", f"/flow_runs/{job}/set_state", crash).raise_for_status()
        # With the key that a supervisor uses: whoever is first makes it.
        second = process_platform.create(
            "find-primes/normal",
            parameters=parameters,
            idempotency_key=requeue_key(job, 2),
            labels={JOB_ID_LABEL: str(job), ATTEMPT_LABEL: 2},
            work_queue_name="high",
        )
        second.raise_for_status()
        shown = status(process_platform)
        assert line_with(shown, str(job)).startswith(f"{job} find-primes high 2 Scheduled")
        assert second.json()["id"] not in shown
    assert process_platform.ended(second.json()["id"])["state_type"] == "COMPLETED"
    assert line_with(status(process_platform), str(job)).startswith(
        f"{job} find-primes high 2 Completed"
    )


async def test_a_job_for_later_does_not_wait(process_platform: Platform) -> None:
    def counts(shown: str) -> list[int]:
        """Of the queue low: waiting, running, scheduled."""
        return [int(word) for word in line_with(shown, "process ", " low ").split()[2:5]]

    due = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    waiting, _, scheduled = counts(status(process_platform))
    response = process_platform.create(
        "find-primes/low",
        parameters={"payload": {"upper_bound": 10}, "results_directory": "later"},
        state={"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}},
    )
    response.raise_for_status()
    job = response.json()["id"]
    try:
        shown = status(process_platform)
        with temporary_settings({PREFECT_API_URL: process_platform.api}):
            async with get_client() as client:
                (low,) = [row for row in await read_backlog(client) if row["queue"] == "low"]
                progress = await read_progress(client, UUID(job))
    finally:
        process_platform.rest("DELETE", f"/flow_runs/{job}").raise_for_status()
    assert counts(shown) == [waiting, 0, scheduled + 1]
    assert line_with(shown, job) == f"{job} find-primes low {due:%F %T} UTC"
    assert low["pending"] == waiting
    assert (progress.ahead, progress.text) == (None, f"due at {due:%F %T} UTC")
