"""Decorator for the platform's own flows, such as the run history: not jobs."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from prefect import Flow, State, flow
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from tasks.errors import PrefectureError

_LONGEST = 600  # seconds: the next run does the same work

P = ParamSpec("P")


def platform_flow(
    name: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, str]]], Flow[P, Coroutine[Any, Any, State[Any]]]]:
    """Make a flow of an async function that returns one line: the message of the final state.

    A PrefectureError ends the run Failed with the error's one line and no traceback. There are no
    retries: the next run on the schedule catches up.
    """

    def decorate(
        body: Callable[P, Coroutine[Any, Any, str]],
    ) -> Flow[P, Coroutine[Any, Any, State[Any]]]:
        @functools.wraps(body)
        async def run(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
            try:
                return Completed(message=await body(*args, **kwargs))
            except PrefectureError as error:
                get_run_logger().error("%s", error)
                return Failed(message=str(error))

        # No return value: a run a minute would each leave a file that nothing reads.
        made = flow(name=name, timeout_seconds=_LONGEST, persist_result=False)
        return made(run)

    return decorate
