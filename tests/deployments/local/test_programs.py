"""Settings of the embedded server that differ from Prefect's defaults."""

from datetime import timedelta
from pathlib import Path

import pytest
from prefect.settings.models.server.services import ServerServicesSchedulerSettings

from deployments.local.programs import server_env
from tasks.settings import Settings

AHEAD = "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME"


def test_few_runs_of_a_schedule_are_made_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(AHEAD, raising=False)
    environment = server_env(Settings(home=tmp_path), "worker")
    monkeypatch.setenv(AHEAD, environment[AHEAD])
    assert ServerServicesSchedulerSettings().min_scheduled_time == timedelta(minutes=10)
    monkeypatch.setenv(AHEAD, "PT2H")
    assert server_env(Settings(home=tmp_path), "worker")[AHEAD] == "PT2H"
