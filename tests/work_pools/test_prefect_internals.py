"""What is private in Prefect's flow engine is still where we change it."""

import os
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import uuid4

import prefect.deployments.steps.core
import prefect.flow_engine
import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import AsyncFlowRunEngine, FlowRunEngine
from prefect.settings import PREFECT_API_URL, temporary_settings

from work_pools.entrypoint.prefect_internals import listen_for_no_suspension, report_no_steps

# Prefect's engine, given a run that no server has, and that it cannot load a flow for.
_GIVEN = """
import os, runpy, uuid
from prefect.client.schemas.objects import FlowRun
from work_pools.entrypoint.prefect_internals import load_no_other
id = uuid.UUID(os.environ["PREFECT__FLOW_RUN_ID"])
load_no_other(FlowRun(id=id, flow_id=uuid.uuid4(), name="otter"))
runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
"""


def test_the_engine_does_not_read_a_run_that_it_is_given() -> None:
    own = {
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # where nobody answers
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT__FLOW_RUN_ID": str(uuid4()),
    }
    done = subprocess.run(
        [sys.executable, "-c", _GIVEN],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Flow run does not have an associated deployment" in done.stderr


async def test_no_event_of_a_pull_step_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    async def send(*_: object, event_type: str, **__: object) -> None:
        sent.append(event_type)

    steps = prefect.deployments.steps.core
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}]
    # It is what opens the web socket: the engine calls it by this name.
    monkeypatch.setattr(steps, "_emit_pull_step_event", send)
    # A step without blocks asks nothing of a server; without an address, Prefect would start one.
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        await steps.run_steps(pull)
        assert sent == ["prefect.flow-run.pull-step.executed"]
        report_no_steps()
        await steps.run_steps(pull)
    assert len(sent) == 1


@pytest.mark.parametrize("engine", [AsyncFlowRunEngine, FlowRunEngine])
def test_a_run_listens_for_no_suspension(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    async def job() -> None: ...

    asked: list[str] = []
    run = FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), name="otter")

    def asks(*_: object) -> AbstractContextManager[None]:
        asked.append("asked")
        return nullcontext()

    # It is what starts the thread: the engine calls it by this name.
    monkeypatch.setattr(prefect.flow_engine, "observe_flow_run_suspension", asks)
    with engine(flow=job, flow_run=run).setup_flow_run_suspension_request():
        assert asked == ["asked"]
    listen_for_no_suspension()
    threads = threading.active_count()
    with engine(flow=job, flow_run=run).setup_flow_run_suspension_request():
        assert (asked, threading.active_count()) == (["asked"], threads)
