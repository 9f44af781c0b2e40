"""Which password a worker gives its jobs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio.abc
import prefect.context
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, get_current_settings

from tasks.prefect_api import run_tokens
from tasks.prefect_api.authentication import authenticate, authenticated_as
from tests.support.platform import post
from tests.support.servers import running
from tests.support.session.environment import PASSWORD
from work_pools.standby import split_variables
from work_pools.worker.run_tokens import RunTokens


class Configuration:
    """Of a job, as Prefect's workers make it: with all that is the worker's."""

    def __init__(self) -> None:
        self.env: dict[str, str | None] = {"PREFECT_API_AUTH_STRING": PASSWORD, "A": "b"}


class Base:
    """A worker that starts nothing, and shows what a job would be given."""

    async def run(
        self, flow_run: FlowRun, configuration: Configuration, _: anyio.abc.TaskStatus[Any] | None
    ) -> Mapping[str, str | None]:
        own = get_current_settings().to_environment_variables(exclude_unset=True)
        return {**configuration.env, **own}


class Worker(RunTokens, Base):  # pyright: ignore[reportIncompatibleMethodOverride, reportGeneralTypeIssues, reportUnsafeMultipleInheritance]
    """That worker, with tokens."""


async def given(takes_tokens: bool, run: UUID) -> Mapping[str, str | None]:
    worker = object.__new__(Worker)
    worker._takes_tokens = takes_tokens  # pyright: ignore[reportPrivateUsage]
    return await worker.run(FlowRun(id=run, flow_id=uuid4(), name="any"), Configuration())


async def test_a_job_has_a_token_and_not_the_password() -> None:
    run = uuid4()
    environment = await given(True, run)
    token = environment["PREFECT_API_AUTH_STRING"]
    assert token
    assert run_tokens.run_of(token, PASSWORD) == run
    assert PREFECT_API_AUTH_STRING.value() == PASSWORD, "that of the worker"


async def test_where_the_server_takes_none() -> None:
    environment = await given(False, uuid4())
    assert environment["PREFECT_API_AUTH_STRING"] == PASSWORD


def test_a_standby_has_neither() -> None:
    shared, of_the_run = split_variables(Configuration().env)
    assert shared == {"A": "b"}
    assert of_the_run == {"PREFECT_API_AUTH_STRING": PASSWORD}


def test_settings_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The global that no function of Prefect replaces is where it was, and is what is in force."""
    before = prefect.context.GLOBAL_SETTINGS_CONTEXT
    monkeypatch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", before)  # put back at the end
    authenticate("run:own")
    assert PREFECT_API_AUTH_STRING.value() == "run:own"
    with authenticated_as("run:other"):
        assert PREFECT_API_AUTH_STRING.value() == "run:other"
    assert PREFECT_API_AUTH_STRING.value() == "run:own"


def test_a_worker_says_that_its_jobs_have_the_password(stock_api: str, tmp_path: Path) -> None:
    """On a server of Prefect's own."""
    log = tmp_path / "worker.log"
    post(stock_api, "/work_pools/", name="process", type="process")
    own = {"PREFECT_API_URL": stock_api, "PREFECT_HOME": str(tmp_path), "DO_NOT_TRACK": "1"}
    settings = [f"{name}={value}" for name, value in own.items()]
    command = [sys.executable, "-m", "work_pools.worker", "--pool", "process"]
    with running(
        "a worker",
        ["/usr/bin/env", *settings, *command, "--name", "own", "--limit", "1"],
        log,
        lambda: "takes no tokens of runs" in log.read_text(),
    ):
        assert PASSWORD not in log.read_text()
