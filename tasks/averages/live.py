"""How far a job of average-files is, for whoever watches it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tasks.averages.spread import Spread, Stage
from tasks.averages.tally import Tally
from tasks.progress import Progress, show_progress

_INTERVAL = 0.5  # seconds between looks


@dataclass
class Live:
    """What is looked at: set by whoever does the work."""

    files: int
    tally: Tally | None = None
    """Of the files that this run reads."""
    spread: Spread | None = None
    """Where others read some too."""

    def tell(self, progress: Progress) -> None:
        """The bar, and the words beside it."""
        if self.spread is not None:
            progress.fraction, progress.text = _of(self.spread, self.tally, self.files)
        elif self.tally is not None:
            progress.fraction, progress.text = self.tally.fraction(), self.tally.text()


def _of(spread: Spread, tally: Tally | None, files: int) -> tuple[float, str]:
    done = float(sum(part.files for part in spread.done))
    busy = waiting = 0
    for part, helpers in spread.seen.items():
        stages = [helper.stage for helper in helpers]
        busy += stages.count(Stage.RUNNING)
        waiting += stages.count(Stage.WAITING)
        if part not in spread.done:
            done += part.files * max((helper.fraction for helper in helpers), default=0.0)
    if spread.mine is not None and tally is not None:
        busy += 1
        if spread.mine not in spread.done:
            done += spread.mine.files * tally.fraction()
    phase = 1 if len(spread.done) < len(spread.parts) else 2
    text = f"{done:,.0f} of {files:,} files, phase {phase} of 2, {busy} working, {waiting} waiting"
    return min(1.0, done / files), text + (f", {spread.copied} copied" if spread.copied else "")


@asynccontextmanager
async def show(files: int) -> AsyncGenerator[Live]:
    """A progress bar for as long as the block runs."""
    live = Live(files)
    async with show_progress(f"{files:,} files") as progress:
        ticker = asyncio.create_task(_tell(live, progress))
        try:
            yield live
            live.tell(progress)
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)


async def _tell(live: Live, progress: Progress) -> None:
    while True:
        live.tell(progress)
        await asyncio.sleep(_INTERVAL)
