"""Decorator for helper flows: not a job, no events, no notifications."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from prefect import Flow, State, flow
from prefect.states import Completed

from tasks.contracts import SumFiles
from tasks.errors import PrefectureError, StageDiscarded
from tasks.runtime.compute_task import validated
from tasks.runtime.final_state import STOPPED, state_for

_Body = Callable[[SumFiles], Coroutine[Any, Any, None]]


def helper_flow(name: str) -> Callable[[_Body], Flow[..., Any]]:
    """Make a flow of an async function that does a `part` of a job for the job's own run.

    It has no parameter `results_directory`, so it is no job. A PrefectureError ends it Failed with
    the error's one line, which is the job's too. Where the job has ended, or another attempt at it
    has begun, the run is Completed: its part is no longer needed.
    """

    def decorate(body: _Body) -> Flow[..., Any]:
        @functools.wraps(body)
        async def run(part: SumFiles) -> State:
            try:
                await body(validated(body, {"part": part})["part"])
            except StageDiscarded as error:
                return Completed(message=str(error))
            except (PrefectureError, OSError, *STOPPED) as error:
                return await state_for(error)
            return Completed()

        return flow(name=name, validate_parameters=False, persist_result=False)(run)

    return decorate
