"""Progress of a job, as a progress artifact in the UI and, less often, as events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from tasks.contracts import attempt_number
from tasks.prefect_api.artifacts import create_artifact, update_artifact
from tasks.prefect_api.progress import description
from tasks.reporting import reports_to_server
from tasks.runtime.background import let_finish
from tasks.runtime.events import JobProgress, about, job_moved

_INTERVAL = 1.0  # seconds between updates: often enough to watch, rare enough to cost nothing
# The server keeps events for a day: one after each 5 %, or after 10 s where anything changed.
_STEP = 0.05
_SECONDS = 10.0


@dataclass
class Progress:
    """The progress of a job. The work sets it, from any thread; the UI shows it once a second."""

    fraction: float = 0.0
    """Share of the work that is done, 0 to 1."""
    text: str = ""
    """What is being done, in a few words."""

    def set(self, fraction: float) -> None:
        """Set the share of the work that is done, 0 to 1."""
        self.fraction = fraction


@asynccontextmanager
async def show_progress(text: str) -> AsyncGenerator[Progress]:
    """Show a progress bar in the UI while the block runs, after its first second: most jobs are
    shorter, and a bar costs the server two requests and two events."""
    progress = Progress(text=text)
    bar = _Bar(progress)
    over = asyncio.Event()
    ticker = asyncio.create_task(_show_changes(bar, progress, over))
    try:
        yield progress
    finally:
        over.set()
        # Not cancelled during a request: the server could apply it after the last one.
        await let_finish(ticker)
        if bar.shown:
            await bar.show()


class _Bar:
    """The progress artifact in the UI."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._artifact: UUID | None = None
        # None where there is no server to show it, and once it is given up.
        self._run = _run_id() if reports_to_server() else None

    @property
    def shown(self) -> bool:
        return self._artifact is not None

    async def show(self) -> None:
        """Create the artifact, or update it with the current progress."""
        percent = min(100.0, round(100 * self._progress.fraction, 1))
        text = description(percent, self._progress.text)
        if self._run is None:
            return
        try:
            if self._artifact is None:
                self._artifact = await create_artifact(self._run, "progress", percent, text)
            else:
                await update_artifact(self._artifact, percent, text)
        except httpx.HTTPError as error:
            # A failed update must not end the job. After a failed request the artifact may
            # exist all the same: a second one would stand beside it.
            what = "could not be shown"
            if self._artifact is None:
                self._run, what = None, "will not be shown"
            get_run_logger().warning("progress %s: %s", what, error)


async def _show_changes(bar: _Bar, progress: Progress, over: asyncio.Event) -> None:
    clock = asyncio.get_running_loop().time
    shown = sent = Progress(text=progress.text)
    sent_at = clock()
    while not await _is_set(over, _INTERVAL):
        if progress != shown or not bar.shown:
            shown = Progress(progress.fraction, progress.text)
            await bar.show()
        far = abs(shown.fraction - sent.fraction) >= _STEP
        if far or (shown != sent and clock() - sent_at >= _SECONDS):
            await _emit(shown)
            sent, sent_at = shown, clock()


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for at most `seconds`. Returns whether it is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _run_id() -> UUID | None:
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


async def _emit(progress: Progress) -> None:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return  # outside a flow run there is no job
    run = context.flow_run
    event = JobProgress(
        **about(run, context.flow.name),
        attempt=attempt_number(run.labels),
        fraction=min(1.0, progress.fraction),
        text=progress.text,
    )
    await job_moved(event, run)
