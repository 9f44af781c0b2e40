"""How far a job is, as a progress artifact in the UI."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.logging import get_run_logger

_INTERVAL = 1.0  # seconds between updates: often enough to watch, rare enough to cost nothing


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
    ticker = asyncio.create_task(_show_changes(bar, progress))
    try:
        yield progress
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        await _update(bar, progress)


async def _show_changes(bar: UUID, progress: Progress) -> None:
    shown = Progress(text=progress.text)
    while True:
        await asyncio.sleep(_INTERVAL)
        if progress != shown:
            shown = Progress(progress.fraction, progress.text)
            await _update(bar, shown)


async def _update(bar: UUID, progress: Progress) -> None:
    try:
        await aupdate_progress_artifact(
            bar, min(100.0, round(100 * progress.fraction, 1)), progress.text
        )
    except httpx.HTTPError as error:
        # A bar that stands still is no reason to lose the work.
        get_run_logger().warning("progress could not be shown: %s", error)
