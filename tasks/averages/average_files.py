"""Averages the files of a job: in this run alone, or in parts together with helper runs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from prefect import get_client
from prefect.client.schemas.objects import StateType
from pydantic import BaseModel

from tasks.averages.accumulator import Accumulator
from tasks.averages.exchange import Exchange, listing
from tasks.averages.helper_runs import FlowRuns
from tasks.averages.markers import without_markers
from tasks.averages.means import writing
from tasks.averages.partition import Cost, Part, partition, size_of_parts
from tasks.averages.progress import ReadProgress
from tasks.averages.read_as import described, summarized
from tasks.averages.reading.generated import generated_files
from tasks.averages.reading.place import Options, Rules
from tasks.averages.scheduler import Scheduler
from tasks.averages.shared_progress import SharedProgress, show
from tasks.averages.speculation import SpeculationRule
from tasks.averages.sums import sum_in_ranges
from tasks.averages.sums_files import Done
from tasks.contracts import AverageFiles, SumFiles
from tasks.errors import UnreadableInput
from tasks.reporting import reports_to_server
from tasks.runtime.compute_task import Job, in_threads, off_the_loop, this_run
from tasks.runtime.inputs import find_inputs
from tasks.settings import Settings, get_settings
from tasks.storage.inputs.local import InputFile
from tasks.storage.results.opening import open_results

_CHECK_INTERVAL = 10.0  # seconds between a helper's checks that its part is still wanted
_SHORT = 5.0  # seconds: beside a file that takes longer, one-time costs do not matter
_LEAST_START = 1.0  # seconds
_SHOWN = 20  # layouts, or files left out
_DELIMITERS = {"tab": "\t", "blank": " "}


class AverageSummary(BaseModel, frozen=True):
    """Summary of a job: the number of files, the numbers in each, and how they were averaged."""

    files: int
    numbers: int
    bytes: int
    """Size of all files together."""
    phases: int
    """1 where this run did it alone; 2 where parts were summed first and then combined."""
    runs: int
    """Parts into which the files were divided."""
    copied: int
    """Parts that were also given to a second run, because the first was slow."""
    read: list[dict[str, Any]]
    """Layouts of the files (header, columns, delimiter and so on), with the number of files."""
    missing: int
    """Places in files without a finite number, which were skipped."""
    comments: int
    """Lines of text that were skipped as comments."""
    left_out: list[str]
    """The first files of the source that hold no numbers, such as Spark's _SUCCESS."""
    seconds: float
    """Seconds from opening the first file to writing the last mean."""

    def notes(self) -> str:
        """The summary as markdown for the UI."""
        lines = [f"The means of **{self.numbers:,} numbers** over **{self.files:,} files**.", ""]
        lines += [f"- {described(kind)}" for kind in self.read[:_SHOWN]]
        if self.missing:
            lines.append(f"- {self.missing:,} places without a number were skipped")
        if self.comments:
            lines.append(f"- {self.comments:,} comments were skipped")
        if self.left_out:
            lines.append(f"- left out, since they hold no numbers: {', '.join(self.left_out)}")
        return "\n".join(lines)


async def average(payload: AverageFiles, job: Job) -> AverageSummary:
    """Write the means of the payload's files, and its other wanted outputs, to the job's stage.

    Raises SourceNotFound, StorageUnavailable, and UnreadableInput naming the file.
    """
    files, left_out = await _find(payload)
    began = time.monotonic()
    async with show(len(files)) as shared:
        # Helper runs are flow runs of the same server.
        several = payload.workers > 1 and reports_to_server()
        if several and (parts := await _parts(files, payload, job)):
            total = await _with_helpers(files, parts, payload, job, shared)
        else:
            parts = [Part(0, len(files))]
            progress = shared.progress = ReadProgress(len(files))
            await _write(_alone(files, payload, job, progress), len(files), payload, job)
            total = progress
    return AverageSummary(
        files=len(files),
        numbers=total.length,
        bytes=total.bytes,
        phases=1 if len(parts) == 1 else 2,
        runs=len(parts),
        copied=shared.scheduler.copied if shared.scheduler else 0,
        read=summarized(total.read_as),
        missing=total.missing,
        comments=total.comments,
        left_out=left_out[:_SHOWN],
        seconds=round(time.monotonic() - began, 3),
    )


async def sum_part(part: SumFiles) -> None:
    """Sum one part for another run's job. Raises StageDiscarded where it is no longer wanted."""
    settings, (run, _) = get_settings(), this_run()
    root = open_results(settings)
    store = root.parts(part.directory, part.job, part.stage)
    await off_the_loop(root, "look for the job", store.names)
    files, _ = await _find(part.of)
    if listing(files) != part.listing:
        raise UnreadableInput(
            "the files of the source have changed since the job began: leave them alone until the "
            "job has ended, and submit it again"
        )
    wanted = Part(part.first, part.end)
    async with (
        in_threads(root.open_stage(part.directory, part.job, run.id)) as stage,
        show(wanted.files) as shared,
    ):
        shared.progress = ReadProgress(wanted.files)
        exchange = Exchange(
            files, store, stage.scratch, settings.cpus, part.memory, _rules(part.of),
            partial(off_the_loop, root),
        )  # fmt: skip
        wanted_still = partial(off_the_loop, root, "look for the job", store.names)
        await _while_wanted(wanted_still, exchange.make(wanted, shared.progress))


async def _while_wanted(
    wanted: Callable[[], Awaitable[object]], work: Coroutine[Any, Any, None]
) -> None:
    """Run `work`, and call `wanted` every 10 s; where that raises, cancel the work and raise."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_CHECK_INTERVAL)
            await wanted()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _find(payload: AverageFiles) -> tuple[Sequence[InputFile], list[str]]:
    """The files of the payload's source, or the files to generate.

    Returns also the names of the files that are left out, since they hold no numbers.
    """
    if "generate" in payload.model_fields_set:
        return generated_files(payload.generate), []
    files, left_out = without_markers(await find_inputs(payload.source))
    if not files:
        raise UnreadableInput(
            f"source '{payload.source}' names {', '.join(left_out[:3])} alone, which holds no "
            "numbers: name the files beside it"
        )
    return files, left_out


async def _write(
    sums: AsyncGenerator[tuple[Accumulator, int]], files: int, payload: AverageFiles, job: Job
) -> None:
    with writing(job.stage.files, frozenset(payload.also)) as means:
        async for accumulator, length in sums:
            for part in accumulator.means(files, length, get_settings().cpus):
                await asyncio.to_thread(means.write, part)


def _alone(
    files: Sequence[InputFile], payload: AverageFiles, job: Job, progress: ReadProgress
) -> AsyncGenerator[tuple[Accumulator, int]]:
    settings = get_settings()
    return sum_in_ranges(
        files,
        job.stage.scratch,
        threads=settings.cpus,
        memory=settings.sum_memory,
        rules=_rules(payload),
        progress=progress,
    )


async def _parts(files: Sequence[InputFile], payload: AverageFiles, job: Job) -> list[Part] | None:
    """The parts into which to divide the files; None where division does not pay."""
    if "partition" in payload.model_fields_set:
        size = payload.partition
    else:
        cost = Cost(await _start_cost(job), await _file_cost(files, payload, job))
        size = size_of_parts(len(files), payload.workers, cost)
    return partition(len(files), size) if size < len(files) else None


async def _start_cost(job: Job) -> float:
    """Seconds between this run's states Pending and Running, from the server.

    At least a second: with a fork server the start takes a tenth of that, but a helper run is
    also submitted, waited for, and its sums are read.
    """
    async with get_client() as client:
        states = await client.read_flow_run_states(job.flow_run)
    times = {state.type: state.timestamp for state in states}
    if not {StateType.PENDING, StateType.RUNNING} <= times.keys():
        return _LEAST_START
    seconds = (times[StateType.RUNNING] - times[StateType.PENDING]) / timedelta(seconds=1)
    return max(seconds, _LEAST_START)


async def _file_cost(files: Sequence[InputFile], payload: AverageFiles, job: Job) -> float:
    """Seconds to sum the first file; measured twice where that is short.

    The first measurement includes one-time costs, such as loading compiled code.
    """
    cost = await _seconds_of_first(files, payload, job)
    return min(cost, await _seconds_of_first(files, payload, job)) if cost < _SHORT else cost


async def _seconds_of_first(files: Sequence[InputFile], payload: AverageFiles, job: Job) -> float:
    began = time.monotonic()
    async for _ in _alone(files[:1], payload, job, ReadProgress(1)):
        pass
    return time.monotonic() - began


async def _with_helpers(
    files: Sequence[InputFile],
    parts: Sequence[Part],
    payload: AverageFiles,
    job: Job,
    shared: SharedProgress,
) -> ReadProgress:
    """Write the means with the help of other runs. Returns the counts of all runs together."""
    settings, store = get_settings(), job.stage.parts
    with_retries = partial(off_the_loop, job.results)
    exchange = Exchange(
        files, store, job.stage.scratch, settings.cpus, settings.sum_memory, _rules(payload),
        with_retries,
    )  # fmt: skip
    await with_retries("open the store of parts", store.open)
    done: dict[Part, Done] = {}

    async def finished() -> Mapping[Part, float]:
        done.update(await exchange.finished(done))
        return {part: one.seconds for part, one in done.items()}

    async def do(part: Part) -> None:
        shared.progress = ReadProgress(part.files)
        await exchange.make(part, shared.progress)

    run, _ = this_run()
    async with get_client() as client:
        helpers = FlowRuns(client, run, _wanted(files, payload, job, settings))
        shared.scheduler = Scheduler(parts, payload.workers, helpers, finished, do, _rule(settings))
        await shared.scheduler.run()
    await _write(exchange.together(done), len(files), payload, job)
    if payload.keep_sums:
        await exchange.keep(done, job.stage.files / "sums")
    await with_retries("remove the parts", store.clear)
    parts_done = [done[part] for part in sorted(done)]
    return ReadProgress(
        len(files),
        length=parts_done[0].length,
        bytes=sum(one.bytes for one in parts_done),
        missing=sum(one.missing for one in parts_done),
        comments=sum(one.comments for one in parts_done),
        read_as=[each for one in parts_done for each in one.read_as],
    )


def _wanted(
    files: Sequence[InputFile], payload: AverageFiles, job: Job, settings: Settings
) -> SumFiles:
    return SumFiles(
        of=payload,
        job=job.id,
        directory=job.parameters["results_directory"],
        stage=job.stage.name,
        listing=listing(files),
        memory=settings.sum_memory,
        first=0,
        end=len(files),
    )


def _rule(settings: Settings) -> SpeculationRule:
    return SpeculationRule(
        share=settings.copy_after,
        factor=settings.copy_factor,
        most=settings.copy_most,
        seconds=settings.copy_seconds,
    )


def _rules(payload: AverageFiles) -> Rules:
    options = Options(
        header=payload.header,
        column=payload.column,
        delimiter=_DELIMITERS.get(payload.delimiter, payload.delimiter),
        decimal=payload.decimal,
        comment=payload.comment,
    )
    return Rules(refuse=payload.not_finite == "refuse", options=options)
