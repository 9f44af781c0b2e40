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
from tasks.reporting import reports_to_server
from tasks.runtime.events import JobProgress, about, job_moved

_INTERVAL = 1.0  # seconds between updates: often enough to watch, rare enough to cost nothing
_PATIENCE = 5.0  # seconds that a job's end waits for an update that is under way
# Events are kept for a day: one for each step so far, or after so many seconds.
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
    """A progress bar in the UI for as long as the block runs, where that is longer than a second:
    most jobs are shorter, and a bar costs the server two requests and two events."""
    progress = Progress(text=text)
    bar = _Bar(progress)
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
        if bar.shown:
            await bar.show()


class _Bar:
    """The artifact in the UI."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._artifact: UUID | None = None
        self._given_up = not reports_to_server()

    @property
    def shown(self) -> bool:
        return self._artifact is not None

    async def show(self) -> None:
        """Show how far the work is now."""
        percent = min(100.0, round(100 * self._progress.fraction, 1))
        # The bar in the UI has no number of its own.
        text = ": ".join(part for part in (f"{percent:g} %", self._progress.text) if part)
        if self._given_up:
            return
        try:
            if self._artifact is None:
                self._artifact = await acreate_progress_artifact(percent, description=text)
            else:
                await aupdate_progress_artifact(self._artifact, percent, text)
        except httpx.HTTPError as error:
            # A bar that stands still is no reason to lose the work. One that was not made may be
            # there all the same: another would stand beside it.
            self._given_up = self._artifact is None
            what = "will not be shown" if self._given_up else "could not be shown"
            get_run_logger().warning("progress %s: %s", what, error)


async def _show_changes(bar: _Bar, progress: Progress, over: asyncio.Event) -> None:
    clock = asyncio.get_running_loop().time
    shown = told = Progress(text=progress.text)
    told_at = clock()
    while not await _is_set(over, _INTERVAL):
        if progress != shown or not bar.shown:
            shown = Progress(progress.fraction, progress.text)
            await bar.show()
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
