"""Schedules of users of the gateway: who may have which, and what they submit when they are due."""

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from deployments.gateway.schedules.kept import Schedules
from tests.support.platform import Platform, wait_until
from tests.support.web.gateway import Gateway, gateway_up

YEARLY = "0 0 1 1 *"
PRIMES = {"task": "find-primes", "payload": {"upper_bound": 100}, "results_directory": "recurring"}
MOST = 3


@pytest.fixture(scope="module")
def gateway(
    process_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway]:
    # A home of its own, so that no other gateway submits what is due in this one.
    home = tmp_path_factory.mktemp("schedules")
    bounds = {"PREFECTURE_GATEWAY_SCHEDULES": str(MOST), "PREFECTURE_GATEWAY_JOBS": "1"}
    with gateway_up(home, process_platform.api, **bounds) as gateway:
        yield gateway


def create(user: httpx.Client, name: str, **more: Any) -> UUID:
    answer = user.post("/schedules", json=PRIMES | {"name": name, "cron": YEARLY} | more)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["schedule"])


def problem(answer: httpx.Response, status: int) -> str:
    """The line of a refusal."""
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert "\n" not in detail
    return detail


def let_be_due(gateway: Gateway, schedule: UUID, **more: Any) -> None:
    """Put a schedule back to before its last due time, which is dealt with anew."""
    kept = Schedules(gateway.home, MOST)
    kept.change({schedule: {"done": datetime.now(UTC) - timedelta(hours=3), **more}})


def an_hour_ago() -> str:
    """A cron line with one time in the last three hours."""
    at = datetime.now(UTC) - timedelta(hours=1)
    return f"{at.minute} {at.hour} * * *"


def dealt_with(user: httpx.Client, gateway: Gateway, schedule: UUID) -> dict[str, Any]:
    """The schedule, once nothing of it is due."""
    before = datetime.now(UTC) - timedelta(hours=1)

    def is_done() -> bool:
        found = Schedules(gateway.home, MOST).find(schedule)
        return found is not None and found.done > before

    wait_until(is_done, what="the due time is dealt with")
    return user.get(f"/schedules/{schedule}").json()


def test_a_due_time_has_one_job(gateway: Gateway, process_platform: Platform) -> None:
    with gateway.user("anna") as anna:
        schedule = create(anna, "hourly", cron=an_hour_ago(), tags=["mine"])
        assert anna.get(f"/schedules/{schedule}").json()["last_jobs"] == []
        let_be_due(gateway, schedule)
        found = dealt_with(anna, gateway, schedule)
        assert found["last_error"] is None
        (listed,) = found["last_jobs"]
        process_platform.completed(UUID(listed["job"]), "recurring")
        run = process_platform.run(UUID(listed["job"]))
        assert {"user:anna", "schedule:hourly", "mine"} <= {*run["tags"]}
        # As after the death of a gateway that had not noted it.
        let_be_due(gateway, schedule)
        assert dealt_with(anna, gateway, schedule)["last_jobs"][0]["job"] == listed["job"]
        assert len(anna.get("/jobs", params={"tag": "schedule:hourly"}).json()["jobs"]) == 1
        assert len(found["next"]) == 3
        anna.delete(f"/schedules/{schedule}").raise_for_status()
    lines = [json.loads(line) for line in gateway.audit.splitlines()]
    assert ("run_schedule", "anna", [listed["job"]]) in [
        (line["action"], line["user"], line["jobs"]) for line in lines
    ]
