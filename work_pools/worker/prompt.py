"""A worker that looks for runs when there may be one, and not only each so often."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseWorker

from work_pools.listening import wake_on

if TYPE_CHECKING:
    _Base = BaseWorker[Any, Any, Any]
else:
    _Base = object

# One is due; or the pool may have a slot more, whose holder's body ends a moment later.
_HEARD = [
    f"prefect.flow-run.{state}"
    for state in ("Scheduled", "Completed", "Failed", "Crashed", "Cancelled")
]
_APART = 0.05  # seconds between two looks that are asked for
_IN_VAIN = 0.3  # after one that found nothing: thousands of runs may be handed in to a paused pool
_AGAIN = 5.0  # seconds before events are asked for again


class Prompt(_Base):
    """Makes any of Prefect's workers look at once when a run is handed in or a slot is free.

    What it does not hear of, it finds as before, at its next look.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked = asyncio.Event()
        self._one_look = asyncio.Lock()
        self._beside: list[asyncio.Task[None]] = []

    async def setup(self) -> None:
        """See BaseWorker."""
        await super().setup()
        heard = wake_on(_HEARD, self._asked, _AGAIN)
        self._beside = [asyncio.create_task(each) for each in (self._look(), heard)]

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await super().teardown(*exc_info)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """See BaseWorker. One look at a time: two would see the same runs."""
        async with self._one_look:
            return await super().get_and_submit_flow_runs()

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """See BaseWorker."""
        try:
            return await super().run(*args, **kwargs)  # pyright: ignore[reportAbstractUsage]
        finally:
            self._asked.set()  # the slot is free before anything else can happen

    async def _look(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if not self.limiter.available_tokens:
                continue  # the end of a job sets the event again
            found = False
            with contextlib.suppress(httpx.HTTPError):  # the next look of its own says so
                found = bool(await self.get_and_submit_flow_runs())
            await asyncio.sleep(_APART if found else _IN_VAIN)
