"""How far a job is, as a progress artifact in the UI and, in larger steps, by events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from tasks.contracts import attempt_number
from tasks.events import JobProgress, about, job_moved

_INTERVAL = 1.0  # seconds between updates: often enough to watch, rare enough to cost nothing
_PATIENCE = 5.0  # seconds that a job's end waits for an update that is under way
# Events are kept for a week: one for each step so far, or after so many seconds.
_STEP = 0.05
_SECONDS = 10.0


@dataclass
class Progress:
    """Set by whoever does the work, from any thread; shown once a second."""

    fraction: float = 0.0
    """Share of the work that is done, 0 to 1."""
    text: str = ""
    """What is being done, in a few words."""

    def set(self, fraction: float) -> None:
        """Say how far the work is."""
        self.fraction = fraction


@asynccontextmanager
async def show_progress(text: str) -> AsyncGenerator[Progress]:
    """A progress bar in the UI for as long as the block runs."""
    progress = Progress(text=text)
    try:
        bar = await acreate_progress_artifact(0.0, description=text)
    except httpx.HTTPError as error:
        get_run_logger().warning("progress will not be shown: %s", error)
        yield progress
        return
    over = asyncio.Event()
    ticker = asyncio.create_task(_show_changes(bar, progress, over))
    try:
        yield progress
    finally:
        over.set()
        # Not cancelled in a request: the server may come to that after the last one.
        await asyncio.wait({ticker}, timeout=_PATIENCE)
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        await _update(bar, progress)


async def _show_changes(bar: UUID, progress: Progress, over: asyncio.Event) -> None:
    clock = asyncio.get_running_loop().time
    shown = told = Progress(text=progress.text)
    told_at = clock()
    while not await _is_set(over, _INTERVAL):
        if progress != shown:
            shown = Progress(progress.fraction, progress.text)
            await _update(bar, shown)
        far = abs(shown.fraction - told.fraction) >= _STEP
        if far or (shown != told and clock() - told_at >= _SECONDS):
            _tell(shown)
            told, told_at = shown, clock()


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is, after so many seconds at most."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _tell(progress: Progress) -> None:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return  # no flow run: no job to tell of
    run = context.flow_run
    job_moved(
        JobProgress(
            **about(run, context.flow.name),
            attempt=attempt_number(run.labels),
            fraction=min(1.0, progress.fraction),
            text=progress.text,
        )
    )


async def _update(bar: UUID, progress: Progress) -> None:
    try:
        await aupdate_progress_artifact(
            bar, min(100.0, round(100 * progress.fraction, 1)), progress.text
        )
    except httpx.HTTPError as error:
        # A bar that stands still is no reason to lose the work.
        get_run_logger().warning("progress could not be shown: %s", error)
