"""Requests of a job to storage and registries, as Prefect tasks: transient errors are retried.

Each task is retried alone: one that has completed is not repeated.
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

# Six waits of 1, 2, 4, 8, 16 and 32 s, a minute in all: long enough for a restart or a fail-over
# of storage. A longer outage fails the job.
TRIES = 7
FIRST_WAIT = 1.0
# Share by which a wait varies, so that jobs which failed together do not all retry at once.
JITTER = 0.5
# Seconds after a task's first failure in which it is retried. This limit counts where each try is
# slow, as with storage that accepts a connection and never answers.
RETRY_SECONDS = 60.0

P = ParamSpec("P")
R = TypeVar("R")
_Function = Callable[P, Coroutine[Any, Any, R]]


def retried_task(
    name: str, run_name: str
) -> Callable[[_Function[P, R]], Task[P, Coroutine[Any, Any, R]]]:
    """Make a task with retries of an async function. `run_name`: a template of its parameters.

    The task raises the errors of the function: StorageUnavailable and RegistryUnavailable after the
    last try, all others at once.
    """
    first_failures: dict[UUID, float] = {}

    def is_retryable(made: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
        failed = first_failures.setdefault(run.id, time.monotonic())
        return (
            isinstance(state.data, StorageUnavailable | RegistryUnavailable)
            # One less than Prefect's own limit, at which Prefect logs a traceback; the job shows
            # the error in one line.
            and run.run_count < made.retries
            and time.monotonic() - failed < RETRY_SECONDS
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


def as_task(made: Task[P, Coroutine[Any, Any, R]]) -> _Function[P, R]:
    """Return the task; without a server (`run_locally`) its function, which is tried once."""
    return made if reports_to_server() else made.fn


@retried_task("use-storage", run_name="{doing}")
async def with_retries(doing: str, work: Callable[[], Any]) -> Any:
    """Return the value of blocking work; StorageUnavailable and RegistryUnavailable are retried."""
    return await asyncio.to_thread(work)
