"""Steps of a job that talk to something else, as Prefect tasks: what failed and passes is retried.

A step that is done is not done again: each has tries of its own.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from tasks.errors import RegistryUnavailable, StorageUnavailable
from tasks.reporting import reports_to_server

# A minute of waiting, in six waits of 1, 2, 4, 8, 16 and 32 s: long enough for a restart or a
# fail-over of storage. What takes longer is an outage, and the job's end tells of it.
TRIES = 7
FIRST_WAIT = 1.0
# Share of a wait by which it varies, so that jobs which failed together do not return together.
JITTER = 0.5
# Seconds after a step's first failure from which on it is not tried again. Met where each try is
# slow itself, as with storage that accepts and never answers.
PATIENCE = 60.0

P = ParamSpec("P")
R = TypeVar("R")
_Step = Callable[P, Coroutine[Any, Any, R]]


def step(name: str, run_name: str) -> Callable[[_Step[P, R]], Task[P, Coroutine[Any, Any, R]]]:
    """Make a task of an async function; each run is called `run_name`, a template of parameters.

    The task raises what the function raises: StorageUnavailable and RegistryUnavailable after its
    last try, all else at once.
    """
    first_failures: dict[UUID, float] = {}

    def is_retryable(step: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
        failed = first_failures.setdefault(run.id, time.monotonic())
        return (
            isinstance(state.data, StorageUnavailable | RegistryUnavailable)
            # One short of Prefect's own count, because at its end Prefect logs a traceback: of
            # what the job is about to tell in one line.
            and run.run_count < step.retries
            and time.monotonic() - failed < PATIENCE
        )

    return task(
        name=name,
        task_run_name=run_name,
        retries=TRIES,
        retry_delay_seconds=exponential_backoff(FIRST_WAIT),
        retry_jitter_factor=JITTER,
        retry_condition_fn=is_retryable,
        persist_result=False,  # it would be a pickle
    )


def here(made: Task[P, Coroutine[Any, Any, R]]) -> _Step[P, R]:
    """The step, or where there is no server that runs tasks, its function, which is tried once."""
    return made if reports_to_server() else made.fn


@step("use-storage", run_name="{doing}")
async def with_retries(doing: str, work: Callable[[], Any]) -> Any:
    """What `work` returns, which blocks, and asks something that may be away for a moment."""
    return await asyncio.to_thread(work)
