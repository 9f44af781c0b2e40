"""Jobs of which one in ten crashes: after the next pass the history's totals equal the events."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr
from sqlalchemy import func, select

from tasks.history.database import open_history
from tasks.history.schema import Attempt, Job, Throughput, columns
from tasks.history.update import update_history
from tasks.settings import Settings
from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import LIVE, Drill, rest
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until

_TOLD = {
    "prefecture.job.received": "received",
    "prefecture.job.completed": "completed",
    "prefecture.job.failed": "failed",
    "prefecture.job.cancelled": "cancelled",
    "prefect.flow-run.Running": "started",
    "prefect.flow-run.Crashed": "crashed",
}
COUNTS = ("received", "started", "completed", "failed", "crashed", "cancelled")


def after_a_pass(platform: Platform, settings: Settings) -> Counter[str]:
    """The totals of the history, once it has been brought up to date."""

    async def keep() -> None:
        with temporary_settings({PREFECT_API_URL: platform.api}):
            async with get_client() as client:
                assert (await update_history(client, settings)).all

    asyncio.run(keep())
    made = columns(Throughput)
    sums = [func.coalesce(func.sum(made.c[name]), 0).label(name) for name in COUNTS]
    with open_history(settings) as history, history.reading() as connection:
        (row,) = connection.execute(select(*sums).where(made.c.period == "month")).mappings()
    return Counter({name: int(value) for name, value in row.items()})


def unfinished(platform: Platform) -> int:
    """How many runs of any job have not ended."""
    types = {"any_": ["SCHEDULED", *LIVE]}
    return rest(platform, "POST", "/flow_runs/count", {"flow_runs": {"state": {"type": types}}})


def events_of(drill: Drill) -> Counter[str]:
    """How many events of each kind were emitted for a drill's jobs, each once.

    That an attempt has started, and that it has crashed, are Prefect's own events, which the server
    makes: the event that the job itself emits at its start, a SIGKILL just after may take with it.
    """
    found: dict[str, str] = {}
    resources = [f"prefecture.job.{job}" for job in drill.jobs]
    resources += [f"prefect.flow-run.{run['id']}" for run in drill.runs()]
    for start in range(0, len(resources), 20):
        wanted: dict[str, Any] = {"resource": {"id": resources[start : start + 20]}}
        wanted["event"] = {"name": [*_TOLD]}
        page = rest(drill.platform, "POST", "/events/filter", {"filter": wanted, "limit": 50})
        while True:
            found |= {event["id"]: event["event"] for event in page["events"]}
            if not page["next_page"]:
                break
            path = page["next_page"].partition("/api")[2]
            page = rest(drill.platform, "GET", path)
    return Counter(_TOLD[name] for name in found.values())


@pytest.mark.thorough
@pytest.mark.timeout(1800)  # for 200 on a slow machine
@pytest.mark.parametrize("jobs", [10, long(200)])
def test_totals_equal_the_events(
    process_trials: Platform, check: Check, tmp_path: Path, jobs: int
) -> None:
    url = SecretStr(f"sqlite:///{tmp_path}/history.db")
    settings = Settings(
        home=process_trials.home, results_root=process_trials.results, history_url=url
    )
    wait_until(lambda: not unfinished(process_trials), what="the jobs of other tests have ended")
    before = after_a_pass(process_trials, settings)
    drill = Drill(process_trials, "history")
    drill.submit(jobs - jobs // 10)
    drill.submit(jobs // 10, fault="kill")
    after_a_pass(process_trials, settings)  # in the middle of it
    check(drill, timeout=60 + 4 * jobs)
    counted = after_a_pass(process_trials, settings)
    assert counted == after_a_pass(process_trials, settings), "once more is the same as once"
    # `check` has submitted one more job, to see that all is well.
    added = counted - before - Counter({"received": 1, "started": 1, "completed": 1})
    # The notifier sends the last, and the server stores what it has received every five seconds.
    wait_until(lambda: events_of(drill).total() >= added.total(), what="all events are stored")
    said = events_of(drill)
    crashed = jobs // 10
    assert +added == said
    assert said == Counter(received=jobs, started=jobs + crashed, completed=jobs, crashed=crashed)
    with open_history(settings) as history, history.reading() as connection:
        rows = connection.execute(columns(Job).select()).mappings()
        ours = [row for row in rows if row["job"] in {str(job) for job in drill.jobs}]
        made = columns(Attempt)
        tried = connection.execute(made.select().where(made.c.job.in_(map(str, drill.jobs)))).all()
    assert Counter(row["outcome"] for row in ours) == {"completed": jobs}
    assert sum(row["attempts"] for row in ours) == len(tried) == jobs + crashed
    first, directory = next(iter(drill.jobs.items()))
    files = process_trials.manifest(first, directory)["files"]
    sizes = {row["job"]: row["published_bytes"] for row in ours}
    assert sizes[str(first)] == sum(file["bytes"] for file in files)
