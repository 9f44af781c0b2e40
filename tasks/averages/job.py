"""The files of a job to the means in its stage, with its progress told."""

import asyncio
import time
from collections.abc import Sequence

from pydantic import BaseModel

from tasks.averages.generated import generated_files
from tasks.averages.means import writing
from tasks.averages.place import Rules
from tasks.averages.sums import Tally, stripes
from tasks.contracts import AverageFiles
from tasks.inputs import InputFile
from tasks.progress import Progress, show_progress
from tasks.results.root import Workplace
from tasks.settings import get_settings
from tasks.sources import find_inputs

_INTERVAL = 0.5  # seconds between looks at how far it is


class AverageSummary(BaseModel, frozen=True):
    """What was averaged: so many files, of so many numbers each."""

    files: int
    numbers: int
    bytes: int
    """Of all files."""
    seconds: float
    """From the first file's opening to the last mean's writing."""


async def find_numbers(payload: AverageFiles) -> Sequence[InputFile]:
    """The files that the payload's source names, or those that it wants to be generated.

    Raises as `find_inputs`.
    """
    if "generate" in payload.model_fields_set:
        return generated_files(payload.generate)
    return await find_inputs(payload.source)


async def average(
    files: Sequence[InputFile], payload: AverageFiles, stage: Workplace
) -> AverageSummary:
    """Write the means of the files to the stage: means.parquet, and what else is asked for.

    Raises UnreadableInput naming the file, as tasks.averages.sums does.
    """
    settings = get_settings()
    tally = Tally(len(files))
    began = time.monotonic()
    async with show_progress(f"{len(files):,} files") as progress:
        ticker = asyncio.create_task(_tell(tally, progress))
        try:
            with writing(stage.files, frozenset(payload.also)) as means:
                async for stripe, length in stripes(
                    files,
                    stage.scratch,
                    threads=settings.cpus,
                    memory=settings.sum_memory,
                    rules=Rules(refuse=payload.not_finite == "refuse"),
                    tally=tally,
                ):
                    for part in stripe.means(len(files), length):
                        await asyncio.to_thread(means.write, part)
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
        progress.fraction, progress.text = 1.0, tally.text()
    return AverageSummary(
        files=len(files),
        numbers=tally.length,
        bytes=tally.bytes,
        seconds=round(time.monotonic() - began, 3),
    )


async def _tell(tally: Tally, progress: Progress) -> None:
    while True:
        progress.fraction, progress.text = tally.fraction(), tally.text()
        await asyncio.sleep(_INTERVAL)
