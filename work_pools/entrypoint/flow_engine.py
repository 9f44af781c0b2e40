"""Prefect's engine for one flow run, with the job's own faults told as failures.

Runs `python -m prefect.engine` in this interpreter and changes five things.

Where the engine cannot even start the flow because of what was asked or deployed (an unknown or
missing parameter, a pull step that fails, a flow that does not load), it exits with 1, which the
worker can only report as Crashed, as it would a lost container. Such a run ends Failed here, with
one line, so that a crash always means that the infrastructure failed.

A run that was given the Docker engine's socket by a job variable, and is of no task that starts
containers, ends Failed before anything of the user's is read.

A run that is over already, cancelled or given up as lost while its container was being made, does
not start: the engine would, and make it Running once more, beside the attempt that has taken its
place.

It does not listen for a request to suspend it: see prefect_internals.

It sends no heartbeats.
"""

import asyncio
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
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.steps.core import StepExecutionError
from prefect.exceptions import ParameterBindError, ScriptError, SignatureMismatchError
from prefect.flow_engine import load_flow
from prefect.flows import load_flow_from_entrypoint, load_function_and_convert_to_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Failed

from tasks.contracts import ENGINE_SOCKET, ENGINE_TASKS
from tasks.settings import flow_run_id, imports_start_no_thread
from work_pools.entrypoint.prefect_internals import listen_for_no_suspension

_ENGINE = ("prefect.flow_engine", "prefect.deployments.steps.core")
# Of the heavy ones, those that most tasks need.
_TASKS = (
    *(
        "tasks.runtime.compute_task",
        "tasks.runtime.progress",
        "tasks.primes.sieve",
        "anyio._backends._asyncio",
    ),
    *("numpy", "pyarrow.parquet", "pyarrow.compute", "pyvips"),
)
_PANDAS = "pandas"  # pyarrow imports it at its first conversion, where it is installed
_NOT_LOADED = "the flow cannot be loaded"
_WAITS = (1, 2, 4, 8, 16, 32, 64)  # seconds


def reason_of(error: BaseException | None) -> str | None:
    """The one line for a fault of the job itself; None for anything else."""
    match error:
        case SignatureMismatchError() | ParameterBindError():
            return f"parameters do not fit this task: {' '.join(str(error).split())}"
        case StepExecutionError(__cause__=httpx.TransportError()):
            return None  # the server is away, which has a block of the step's: transient
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
            # All that Prefect's threads leave of a SystemExit; nothing cancels the loading itself.
            return f"{_NOT_LOADED}: its module ends the process, by sys.exit perhaps"
        case _:
            return None


def _is_of_loading(error: BaseException) -> bool:
    """Whether an error, of whatever kind, was raised while the flow's module was imported."""
    if isinstance(error, MemoryError):
        return False
    return _passed(error, load_flow_from_entrypoint, load_function_and_convert_to_flow)


def _passed(error: BaseException, *functions: Callable[..., Any]) -> bool:
    """Whether one of these functions has raised it, or let it through."""
    codes = [function.__code__ for function in functions]
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def is_over(run: UUID) -> bool:
    """Whether nobody waits for a run any more. Waits for a server that is away for a moment."""

    def ask(client: SyncPrefectClient) -> bool:
        state = client.read_flow_run(run).state
        return state is not None and (state.is_final() or state.is_cancelling())

    return _asked(ask) or False  # where nobody answers, the engine says what is wrong


def may_have_engine(run: UUID) -> bool:
    """Whether a run is one of the tasks that start containers."""

    def ask(client: SyncPrefectClient) -> bool:
        deployment = client.read_flow_run(run).deployment_id
        entrypoint = deployment and client.read_deployment(deployment).entrypoint
        names = {name.replace("-", "_") for name in ENGINE_TASKS}
        return entrypoint in {f"flows/{name}.py:{name}" for name in names}

    return _asked(ask) or False


def _asked(question: Callable[[SyncPrefectClient], bool]) -> bool | None:
    """The server's answer; None where none came."""
    for wait in _WAITS:
        try:
            with get_client(sync_client=True) as client:
                return question(client)
        except httpx.ConnectError:
            # Prefect's client waits only for a server that it has reached before.
            time.sleep(wait)
    return None


def _import(*libraries: str) -> None:
    for library in libraries:
        importlib.import_module(library)


def _fail(reason: str) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id(), Failed(message=reason))


def import_before_fork() -> None:
    """Import what jobs import, as far as it starts no thread; and keep it out of the garbage
    collector's sight, whose marks would make copies of the pages that forks share."""
    with imports_start_no_thread():
        _import(*_ENGINE, *_TASKS)
        if importlib.util.find_spec(_PANDAS):
            _import(_PANDAS)
    gc.freeze()


def serve() -> None:
    """Run the flow run that the environment names, and exit as Prefect's engine would."""
    _import(*_ENGINE)
    listen_for_no_suspension()
    # What is here stays: whoever looks for garbage from now on passes over it.
    gc.freeze()
    gc.enable()
    if is_over(flow_run_id()):
        return
    if Path(ENGINE_SOCKET).exists() and not may_have_engine(flow_run_id()):
        _fail("the job variable `engine` is not for this task: hand the job in without it")
        return
    try:
        # Prefect's own modules import it beside the one that is run, ahead or not.
        warnings.filterwarnings("ignore", "'prefect.engine' found in", RuntimeWarning)
        # A supervisor looks after the job, and nobody reads its heartbeats: Prefect sends one at
        # once, and each is a kilobyte in its database.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except BaseException as end:
        reason = reason_of(_cause(end))
        if reason is None:
            raise
        _fail(reason)
        sys.exit(0)


def _cause(end: BaseException) -> BaseException | None:
    """What an end of the engine comes from: it exits from inside its `except` block, so that its
    context is the cause, unless the flow's module itself exits."""
    if not isinstance(end, SystemExit) or _is_of_loading(end):
        return end
    return end.__context__ if end.code else None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
