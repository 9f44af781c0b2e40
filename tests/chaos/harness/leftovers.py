"""What dead attempts leave on the host: containers, and folders that they staged in."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import docker

from tasks.contracts import JOB_ID_LABEL, SIBLING_LABEL
from tests.chaos.harness.drill import LIVE, rest
from tests.chaos.harness.results import staged
from tests.support.containers import containers, engine
from tests.support.platform import Platform

TIDY = 60.0  # seconds until what an attempt left has to be gone


def live(platform: Platform) -> int:
    """The runs that hold a slot of the pool, each of which must come to an end."""
    body = {
        "flow_runs": {"state": {"type": {"any_": LIVE}}},
        "work_pools": {"name": {"any_": [platform.pool]}},
    }
    return rest(platform, "POST", "/flow_runs/count", body)


def orphans(platform: Platform, patience: float = TIDY) -> list[str]:
    """The containers that run though no job does, or that ended longer than `patience` ago."""
    if platform.pool != "docker":
        return []
    return [
        f"container {one.name} is left, {one.status}"
        for one in containers(platform)
        if one.status == "running" or _age(one) > patience
    ]


def users_containers(client: docker.DockerClient, jobs: Container[UUID]) -> list[Any]:
    """What the flows of these jobs have started beside themselves, running or not."""
    found: list[Any] = client.containers.list(
        all=True, filters={"label": f"prefecture={SIBLING_LABEL}"}, ignore_removed=True
    )
    return [one for one in found if UUID(one.labels[JOB_ID_LABEL]) in jobs]


def siblings(platform: Platform, jobs: Container[UUID]) -> list[str]:
    """The users' containers that are left of these jobs, which have ended."""
    if platform.pool != "docker":
        return []
    with engine(platform) as client:
        return [f"container {c.name} is left, {c.status}" for c in users_containers(client, jobs)]


def stages(platform: Platform, patience: float = TIDY) -> list[str]:
    """The staging folders of attempts that ended longer than `patience` ago."""
    limit = datetime.now(UTC) - timedelta(seconds=patience)
    found: list[str] = []
    for path in staged(platform.results):
        run = rest(platform, "GET", f"/flow_runs/{path.name.split('.')[1]}")
        if run["end_time"] and datetime.fromisoformat(run["end_time"]) < limit:
            found.append(f"{path} is left by a run that is {run['state_name']}")
    return found


def _age(container: Any) -> float:
    """Seconds since it ended, or since it was made, where it was never started."""
    state: dict[str, Any] = container.attrs["State"]
    ended = str(state["FinishedAt"])
    moment = str(container.attrs["Created"]) if ended.startswith("0001") else ended
    # Python reads no nanoseconds.
    return (datetime.now(UTC) - datetime.fromisoformat(f"{moment[:19]}+00:00")).total_seconds()
