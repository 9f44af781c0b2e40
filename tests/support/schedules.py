"""Schedules as users add them to a deployment, and the runs that these plan."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.platform import post, rest

MONTH = 30 * 86_400
"""Seconds. A schedule of this interval plans three runs, the first of them in ten days."""


def add_schedule(api: str, deployment: str, **more: Any) -> dict[str, Any]:
    """Add one that plans runs for later, none of which is due during a test."""
    anchor = datetime.now(UTC) + timedelta(days=10)
    schedule = {"interval": MONTH, "anchor_date": anchor.isoformat(), "timezone": "UTC"}
    body = [{"schedule": schedule, "active": True, **more}]
    added = rest(api, "POST", f"/deployments/{deployment}/schedules", body)
    assert added.is_success, added.text
    # The server does so by itself some seconds later.
    rest(api, "POST", f"/deployments/{deployment}/schedule", {}).raise_for_status()
    return added.json()[0]


def schedules(api: str, deployment: str) -> list[dict[str, Any]]:
    """All schedules of a deployment, without the times of their rows."""
    found = rest(api, "GET", f"/deployments/{deployment}").json()["schedules"]
    return [{k: v for k, v in each.items() if k not in ("created", "updated")} for each in found]


def planned(api: str, deployment: str) -> list[dict[str, Any]]:
    """The runs that are planned for a deployment, by the time at which they are due."""
    which = {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    body: dict[str, Any] = {"flow_runs": which, "sort": "EXPECTED_START_TIME_ASC"}
    found: Any = post(api, "/flow_runs/filter", **body)
    return found
