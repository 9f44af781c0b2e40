"""What is private in Prefect's flow engine is still where we change it."""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import uuid4

import prefect.flow_engine
import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import AsyncFlowRunEngine, FlowRunEngine

from work_pools.entrypoint.prefect_internals import listen_for_no_suspension


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
