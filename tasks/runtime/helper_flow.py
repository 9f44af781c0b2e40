"""A flow run that helps a job, as Prefect sees it: no job of its own, and told to no one."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from prefect import Flow, State, flow
from prefect.states import Completed

from tasks.contracts import SumFiles
from tasks.errors import PrefectureError, StageDiscarded
from tasks.runtime.compute_task import validated
from tasks.runtime.final_state import STOPPED, ended

_Body = Callable[[SumFiles], Coroutine[Any, Any, None]]


def helper_flow(name: str) -> Callable[[_Body], Flow[..., Any]]:
    """Make a flow of an async function that does its `part` of a job, and hands it over.

    It has no `results_directory`, by which jobs are known. An error of ours ends it Failed with its
    one line, which the job ends with too. Where the job has ended, or another attempt at it has
    begun, it is Completed: nothing is wanted of it any more.
    """

    def decorate(body: _Body) -> Flow[..., Any]:
        @functools.wraps(body)
        async def help(part: SumFiles) -> State:
            try:
                await body(validated(body, {"part": part})["part"])
            except StageDiscarded as error:
                return Completed(message=str(error))
            except (PrefectureError, OSError, *STOPPED) as error:
                return await ended(error)
            return Completed()

        return flow(name=name, validate_parameters=False, persist_result=False)(help)

    return decorate
