"""Prefect's engine for one flow run, with six changes.

Runs `python -m prefect.engine` in this interpreter.

1. Faults of the job are failures. Where the flow cannot start because of its request or deployment
(an unknown or missing parameter, a failed pull step, a flow that does not load), Prefect's engine
exits with 1, and the worker reports Crashed, as for a lost container. Here the run becomes Failed,
with a reason of one line, so that Crashed always means that the infrastructure failed.

2. A run that a job variable gives the socket of the broker, or of the Docker engine, but whose task
starts no containers, or has pull steps other than ours, becomes Failed before any of the user's
code or data is read.

3. A run that is over already (cancelled, or declared lost while its container was created) does
not start. Prefect's engine would start it, and make it Running beside the attempt that replaced it.

4. It does not listen for requests to suspend the run, and sends no events of its pull steps: see
prefect_internals.

5. It sends no heartbeats.

6. From the moment that its request is known, the process is confined: see confinement.
"""

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import runpy
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments.steps.core import StepExecutionError
from prefect.exceptions import ParameterBindError, ScriptError, SignatureMismatchError
from prefect.flow_engine import load_flow
from prefect.flows import load_flow_from_entrypoint, load_function_and_convert_to_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Failed

from tasks.contracts import ENGINE_SOCKET, engine_task
from tasks.prefect_api.authentication import authenticate
from tasks.settings import api_auth, flow_run_id, imports_start_no_thread
from work_pools.entrypoint.confinement import confined
from work_pools.entrypoint.prefect_internals import (
    listen_for_no_suspension,
    load_no_other,
    report_no_steps,
)
from work_pools.entrypoint.ways_out import open_ways_out

_T = TypeVar("_T")
_ENGINE = ("prefect.flow_engine", "prefect.deployments.steps.core")
# The slow imports that most tasks need.
_TASKS = (
    *(
        "tasks.runtime.compute_task",
        "tasks.runtime.progress",
        "tasks.primes.sieve",
        "anyio._backends._asyncio",
    ),
    *("numpy", "pyarrow.parquet", "pyarrow.compute", "tasks.images.libvips"),
)
_PANDAS = "pandas"  # pyarrow imports it at its first conversion, where it is installed
_NOT_LOADED = "the flow cannot be loaded"
_DELAYS = (1, 2, 4, 8, 16, 32, 64)  # seconds before the next call


def reason_of(error: BaseException | None) -> str | None:
    """One line for a fault of the job itself; None for any other error."""
    match error:
        case SignatureMismatchError() | ParameterBindError():
            return f"parameters do not fit this task: {' '.join(str(error).split())}"
        case StepExecutionError(__cause__=httpx.TransportError()):
            return None  # transient: the step's block could not be read from the server
        case StepExecutionError():
            step = str(error).removeprefix("Encountered error while running ")
            return f"{_NOT_LOADED}: pull step {step}: {_one_line(error.__cause__ or error)}"
        case ScriptError(user_exc=MemoryError()):
            return None
        case ScriptError():
            return f"{_NOT_LOADED}: {_one_line(error.user_exc)}"
        case ImportError() | SyntaxError():
            return f"{_NOT_LOADED}: {_one_line(error)}"
        case Exception() | SystemExit() if _is_of_loading(error):
            return f"{_NOT_LOADED}: {_one_line(error)}"
        case asyncio.CancelledError() if _passed(error, load_flow):
            # Prefect's threads turn a SystemExit into this; nothing else cancels the loading.
            return f"{_NOT_LOADED}: its module ends the process, by sys.exit perhaps"
        case _:
            return None


def _is_of_loading(error: BaseException) -> bool:
    """Whether an error of any type was raised while the flow's module was imported."""
    if isinstance(error, MemoryError):
        return False
    return _passed(error, load_flow_from_entrypoint, load_function_and_convert_to_flow)


def _passed(error: BaseException, *functions: Callable[..., Any]) -> bool:
    """Whether one of these functions is in the error's traceback."""
    codes = [function.__code__ for function in functions]
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_over(run: FlowRun) -> bool:
    """Whether a run is final or being cancelled."""
    return run.state is not None and (run.state.is_final() or run.state.is_cancelling())


def _may_have_engine(run: FlowRun) -> bool:
    """Whether a run's task is one that starts containers, and its code that of the image."""

    def ask(client: SyncPrefectClient) -> bool:
        if run.deployment_id is None:
            return False
        deployment = client.read_deployment(run.deployment_id)
        return engine_task(deployment.entrypoint, deployment.pull_steps) is not None

    return _asked(ask) or False


def _asked(question: Callable[[SyncPrefectClient], _T]) -> _T | None:
    """The server's answer; None where it cannot be reached for 127 s."""
    for delay in _DELAYS:
        try:
            with get_client(sync_client=True) as client:
                return question(client)
        except httpx.ConnectError:
            # Prefect's client itself retries only after a first connection.
            time.sleep(delay)
    return None


def _import(*libraries: str) -> None:
    for library in libraries:
        importlib.import_module(library)


def _fail(reason: str) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id(), Failed(message=reason))


def import_before_fork() -> None:
    """Import the libraries that jobs need, except those that start threads.

    Freezes them for the garbage collector: its writes would copy memory pages that forks share.
    """
    with imports_start_no_thread():
        _import(*_ENGINE, *_TASKS)
        if importlib.util.find_spec(_PANDAS):
            _import(_PANDAS)
    gc.freeze()


def serve() -> None:
    """Run the flow run whose id is in the environment, and exit as Prefect's engine does."""
    _import(*_ENGINE)
    if (own := api_auth()) is not None:
        authenticate(own)  # a fork server read its settings before there was a run
    listen_for_no_suspension()
    report_no_steps()
    # Everything imported so far stays: the garbage collector need not scan it.
    gc.freeze()
    gc.enable()
    run = _asked(lambda client: client.read_flow_run(flow_run_id()))
    if run is not None:  # without an answer, Prefect's engine reports the error
        if _is_over(run):
            return
        load_no_other(run)
    if Path(ENGINE_SOCKET).exists() and not (run and _may_have_engine(run)):
        _fail("the job variable `engine` is for deployments of Prefecture's own: leave it out")
        return
    open_ways_out()
    with confined(run) if run else contextlib.nullcontext():
        _run_engine()


def _run_engine() -> None:
    try:
        # Prefect's own modules import it before it is run as __main__.
        warnings.filterwarnings("ignore", "'prefect.engine' found in", RuntimeWarning)
        # The supervisor detects lost jobs, and nothing reads heartbeats. Prefect would send one at
        # the start, and each takes a kilobyte in its database.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except BaseException as end:
        reason = reason_of(_cause(end))
        if reason is None:
            raise
        _fail(reason)
        sys.exit(0)


def _cause(end: BaseException) -> BaseException | None:
    """The error behind the engine's exit. The engine exits inside its `except` block, so the cause
    is the context of the SystemExit, unless the flow's module itself exits."""
    if not isinstance(end, SystemExit) or _is_of_loading(end):
        return end
    return end.__context__ if end.code else None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
