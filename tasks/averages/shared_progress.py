"""Shows the progress of an average-files job in the UI."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tasks.averages.progress import ReadProgress
from tasks.averages.scheduler import Scheduler, Stage
from tasks.runtime.progress import Progress, show_progress

_INTERVAL = 0.5  # seconds between updates


@dataclass
class SharedProgress:
    """The sources of the progress bar; the code that does the work sets them."""

    files: int
    progress: ReadProgress | None = None
    """Counters of the files that this run reads."""
    scheduler: Scheduler | None = None
    """Set where helper runs read files too."""

    def update(self, progress: Progress) -> None:
        """Set the bar's fraction and text."""
        if self.scheduler is not None:
            progress.fraction, progress.text = _of(self.scheduler, self.progress, self.files)
        elif self.progress is not None:
            progress.fraction, progress.text = self.progress.fraction(), self.progress.text()


def _of(scheduler: Scheduler, progress: ReadProgress | None, files: int) -> tuple[float, str]:
    done = float(sum(part.files for part in scheduler.done))
    busy = waiting = 0
    for part, helpers in scheduler.seen.items():
        stages = [helper.stage for helper in helpers]
        busy += stages.count(Stage.RUNNING)
        waiting += stages.count(Stage.WAITING)
        if part not in scheduler.done:
            done += part.files * max((helper.fraction for helper in helpers), default=0.0)
    if scheduler.mine is not None and progress is not None:
        busy += 1
        if scheduler.mine not in scheduler.done:
            done += scheduler.mine.files * progress.fraction()
    phase = 1 if len(scheduler.done) < len(scheduler.parts) else 2
    text = f"{done:,.0f} of {files:,} files, phase {phase} of 2, {busy} working, {waiting} waiting"
    return min(1.0, done / files), text + (
        f", {scheduler.copied} speculative" if scheduler.copied else ""
    )


@asynccontextmanager
async def show(files: int) -> AsyncGenerator[SharedProgress]:
    """Show a progress bar for as long as the block runs."""
    shared = SharedProgress(files)
    async with show_progress(f"{files:,} files") as progress:
        ticker = asyncio.create_task(_keep_updating(shared, progress))
        try:
            yield shared
            shared.update(progress)
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)


async def _keep_updating(shared: SharedProgress, progress: Progress) -> None:
    while True:
        shared.update(progress)
        await asyncio.sleep(_INTERVAL)
