"""The files of a job to the means in its stage: by this run alone, or shared with others."""

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
from tasks.averages.sums import stripes
from tasks.averages.sums_files import Done
from tasks.contracts import AverageFiles, SumFiles
from tasks.errors import UnreadableInput
from tasks.reporting import reports_to_server
from tasks.runtime.compute_task import Job, in_threads, off_the_loop, this_run
from tasks.runtime.inputs import find_inputs
from tasks.settings import Settings, get_settings
from tasks.storage.inputs.local import InputFile
from tasks.storage.results.opening import open_results

_LOOK = 10.0  # seconds between a helper's looks whether it is still wanted
_SOON = 5.0  # seconds: beside a file that takes longer, what is done but once is nothing
_LEAST_START = 1.0  # seconds
_SHOWN = 20  # kinds of files, or files left out
_DELIMITERS = {"tab": "\t", "blank": " "}


class AverageSummary(BaseModel, frozen=True):
    """What was averaged: so many files, of so many numbers each, and how."""

    files: int
    numbers: int
    bytes: int
    """Of all files."""
    phases: int
    """1 where this run did it alone; 2 where sums were made first and put together then."""
    runs: int
    """Parts that the files were divided in."""
    copied: int
    """Parts that a second run was given, because the first was slow."""
    read: list[dict[str, Any]]
    """How the files were read: header, columns, delimiter and so on, with how many were so."""
    missing: int
    """Places in files without a finite number, that were skipped."""
    comments: int
    """Lines of text that were passed over as comments."""
    left_out: list[str]
    """Files of the source that hold no numbers, such as Spark's _SUCCESS: the first of them."""
    seconds: float
    """From the first file's opening to the last mean's writing."""

    def notes(self) -> str:
        """The same for people, in markdown."""
        lines = [f"The means of **{self.numbers:,} numbers** over **{self.files:,} files**.", ""]
        lines += [f"- {described(kind)}" for kind in self.read[:_SHOWN]]
        if self.missing:
            lines.append(f"- {self.missing:,} places without a number were skipped")
        if self.comments:
            lines.append(f"- {self.comments:,} comments were passed over")
        if self.left_out:
            lines.append(f"- left out, since they hold no numbers: {', '.join(self.left_out)}")
        return "\n".join(lines)


async def average(payload: AverageFiles, job: Job) -> AverageSummary:
    """Write the means of the payload's files to the job's stage, and what else is asked for.

    Raises SourceNotFound, StorageUnavailable, and UnreadableInput naming the file.
    """
    files, marks = await _find(payload)
    began = time.monotonic()
    async with show(len(files)) as live:
        # Others that share the work are flow runs of the same server.
        several = payload.workers > 1 and reports_to_server()
        if several and (parts := await _parts(files, payload, job)):
            total = await _shared(files, parts, payload, job, live)
        else:
            parts = [Part(0, len(files))]
            progress = live.progress = ReadProgress(len(files))
            await _write(_alone(files, payload, job, progress), len(files), payload, job)
            total = progress
    return AverageSummary(
        files=len(files),
        numbers=total.length,
        bytes=total.bytes,
        phases=1 if len(parts) == 1 else 2,
        runs=len(parts),
        copied=live.scheduler.copied if live.scheduler else 0,
        read=summarized(total.read_as),
        missing=total.missing,
        comments=total.comments,
        left_out=marks[:_SHOWN],
        seconds=round(time.monotonic() - began, 3),
    )


async def sum_part(part: SumFiles) -> None:
    """Do one part for the job that wants it. Raises StageDiscarded where none does any more."""
    settings, (run, _) = get_settings(), this_run()
    root = open_results(settings)
    store = root.parts(part.directory, part.job, part.stage)
    await off_the_loop(root, "look for the job", store.names)
    files, _ = await _find(part.of)
    if listing(files) != part.listing:
        raise UnreadableInput(
            "the source has other files than when the job began: leave them alone until it has "
            "ended, and submit it again"
        )
    wanted = Part(part.first, part.end)
    async with (
        in_threads(root.open_stage(part.directory, part.job, run.id)) as stage,
        show(wanted.files) as live,
    ):
        live.progress = ReadProgress(wanted.files)
        exchange = Exchange(
            files, store, stage.scratch, settings.cpus, part.memory, _rules(part.of),
            partial(off_the_loop, root),
        )  # fmt: skip
        wanted_still = partial(off_the_loop, root, "look for the job", store.names)
        await _as_long_as(wanted_still, exchange.make(wanted, live.progress))


async def _as_long_as(
    wanted: Callable[[], Awaitable[object]], work: Coroutine[Any, Any, None]
) -> None:
    """Do work, and give it up when `wanted`, asked now and then, raises."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK)
            await wanted()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _find(payload: AverageFiles) -> tuple[Sequence[InputFile], list[str]]:
    """The files that the payload's source names, or those that it wants to be generated.

    And the names of those that hold no numbers, and are left out.
    """
    if "generate" in payload.model_fields_set:
        return generated_files(payload.generate), []
    files, marks = without_markers(await find_inputs(payload.source))
    if not files:
        raise UnreadableInput(
            f"source '{payload.source}' names {', '.join(marks[:3])} alone, which holds no "
            "numbers: name the files beside it"
        )
    return files, marks


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
    return stripes(
        files,
        job.stage.scratch,
        threads=settings.cpus,
        memory=settings.sum_memory,
        rules=_rules(payload),
        progress=progress,
    )


async def _parts(files: Sequence[InputFile], payload: AverageFiles, job: Job) -> list[Part] | None:
    """How the files are divided; None where that is worth nothing."""
    if "partition" in payload.model_fields_set:
        size = payload.partition
    else:
        cost = Cost(await _start_cost(job), await _file_cost(files, payload, job))
        size = size_of_parts(len(files), payload.workers, cost)
    return partition(len(files), size) if size < len(files) else None


async def _start_cost(job: Job) -> float:
    """Seconds from this run's taking by its worker to its start, as the server has noted them.

    At least a second: with a fork server that alone takes a tenth, and a run that is started
    is submitted, waited for and its sums are read besides.
    """
    async with get_client() as client:
        states = await client.read_flow_run_states(job.flow_run)
    times = {state.type: state.timestamp for state in states}
    if not {StateType.PENDING, StateType.RUNNING} <= times.keys():
        return _LEAST_START
    seconds = (times[StateType.RUNNING] - times[StateType.PENDING]) / timedelta(seconds=1)
    return max(seconds, _LEAST_START)


async def _file_cost(files: Sequence[InputFile], payload: AverageFiles, job: Job) -> float:
    """Seconds that the first file takes; read once more if that was soon done.

    The first time takes with it what is done but once, such as the loading of compiled code.
    """
    cost = await _seconds_of_first(files, payload, job)
    return min(cost, await _seconds_of_first(files, payload, job)) if cost < _SOON else cost


async def _seconds_of_first(files: Sequence[InputFile], payload: AverageFiles, job: Job) -> float:
    began = time.monotonic()
    async for _ in _alone(files[:1], payload, job, ReadProgress(1)):
        pass
    return time.monotonic() - began


async def _shared(
    files: Sequence[InputFile],
    parts: Sequence[Part],
    payload: AverageFiles,
    job: Job,
    live: SharedProgress,
) -> ReadProgress:
    """The same by several runs. Returns what they have counted."""
    settings, store = get_settings(), job.stage.parts
    with_retries = partial(off_the_loop, job.results)
    exchange = Exchange(
        files, store, job.stage.scratch, settings.cpus, settings.sum_memory, _rules(payload),
        with_retries,
    )  # fmt: skip
    await with_retries("make room for the parts", store.open)
    done: dict[Part, Done] = {}

    async def finished() -> Mapping[Part, float]:
        done.update(await exchange.finished(done))
        return {part: one.seconds for part, one in done.items()}

    async def do(part: Part) -> None:
        live.progress = ReadProgress(part.files)
        await exchange.make(part, live.progress)

    run, _ = this_run()
    async with get_client() as client:
        helpers = FlowRuns(client, run, _wanted(files, payload, job, settings))
        live.scheduler = Scheduler(parts, payload.workers, helpers, finished, do, _rule(settings))
        await live.scheduler.run()
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
