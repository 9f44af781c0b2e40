"""Settings of the embedded server that differ from Prefect's defaults."""

from datetime import timedelta
from pathlib import Path

import pytest
from prefect.settings.models.server.services import ServerServicesSchedulerSettings

from deployments.local.programs import notifier_env, server_env
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


def test_no_program_has_the_token_of_who_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECTURE_URL", "https://prefecture.example.org")
    monkeypatch.setenv("PREFECTURE_TOKEN", "prefecture_x")
    monkeypatch.setenv("PREFECTURE_STANDBY", "0")
    environment = notifier_env(Settings(home=tmp_path), "worker", "http://127.0.0.1:4200/api")
    assert environment["PREFECTURE_STANDBY"] == "0"
    assert not {"PREFECTURE_URL", "PREFECTURE_TOKEN"} & environment.keys()
