"""The decorator for compute tasks: each flow run is one attempt at a job."""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints
from uuid import UUID

import httpx
from prefect import Flow, State, flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Crashed
from pydantic import TypeAdapter, ValidationError

from tasks.contracts import (
    INFRASTRUCTURE,
    KEPT_VARIABLE,
    Manifest,
    Receipt,
    TaskOptions,
    attempt_number,
    declare,
    job_id,
    user_of,
)
from tasks.errors import EngineUnavailable, InvalidPayload, PrefectureError, StageDiscarded
from tasks.prefect_api.artifacts import create_artifact
from tasks.reporting import reports_to_server
from tasks.runtime.background import let_finish
from tasks.runtime.events import JobStarted, about, job_moved
from tasks.runtime.final_state import STOPPED, state_for
from tasks.runtime.retries import as_task, with_retries
from tasks.runtime.unreached import unreached
from tasks.settings import is_in_shared_container, run_settings
from tasks.storage.in_threads import in_threads
from tasks.storage.results.interface import Result, ResultsRoot, Stage
from tasks.storage.results.listing import listing
from tasks.storage.results.opening import open_results
from tasks.storage.return_values import result_storage

P = ParamSpec("P")
T = TypeVar("T")
_Body = Callable[P, Coroutine[Any, Any, Receipt]]
_NOT_SHARED = (
    "the job variable `container`: this task needs a container of its own, submit it with `fresh`, "
    "or without the variable"
)
_Returned = dict[str, Any]  # a Receipt as plain JSON, readable without the class


def compute_task(
    name: str,
    *,
    fresh_container: bool = False,
    network: bool = True,
    max_duration: int | None = None,
) -> Callable[[_Body[P]], Flow[P, Coroutine[Any, Any, _Returned]]]:
    """Make a flow of an async function that takes a payload and a results directory.

    A PrefectureError ends the run Failed with the error's one line and no traceback. Where the job
    has a result already, its receipt is returned and the function is not called.
    Parameters are validated here and not by Prefect, whose message takes several lines.
    `fresh_container`: the task decodes users' files with native code, or uses the Docker engine.
    Each job has a container of its own: its deployments have the job variable `container: fresh`,
    and without it the run fails before it reads anything.
    `network`: whether it connects to anything but its Prefect server and the storage; where not,
    the kernel sees to it.
    `max_duration`: seconds one attempt may run, where neither the job nor its deployment says.
    """

    def decorate(body: _Body[P]) -> Flow[P, Coroutine[Any, Any, _Returned]]:
        @functools.wraps(body)
        async def attempt(*args: P.args, **kwargs: P.kwargs) -> _Returned | State:
            try:
                if fresh_container and is_in_shared_container():
                    raise InvalidPayload(_NOT_SHARED)
                given = inspect.signature(body).bind(*args, **kwargs).arguments
                return (await perform(body, given)).model_dump(mode="json")
            except StageDiscarded as error:
                # Crashed, not Failed: that would be final, and another attempt does the job.
                raise Abort(str(error)) from error
            except EngineUnavailable as error:
                # Crashed: the job is retried, and the next attempt shows this reason.
                get_run_logger().error("%s", error)
                return Crashed(message=f"{INFRASTRUCTURE}{error}")
            except (PrefectureError, OSError, *STOPPED) as error:
                return await state_for(error)
            except Exception as error:  # noqa: BLE001  # raised again, where it is not of a host
                return unreached(error)

        options = TaskOptions(
            fresh_container=fresh_container, network=network, max_duration=max_duration
        )
        declare(attempt, options)
        made = flow(
            name=name,
            validate_parameters=False,
            persist_result=True,
            result_storage=result_storage(),
            result_serializer="json",
        )(attempt)
        return cast(Flow[P, Coroutine[Any, Any, _Returned]], made)

    return decorate


async def perform(
    body: Callable[..., Coroutine[Any, Any, Receipt]], given: dict[str, Any]
) -> Receipt:
    """Check the parameters and run a compute task, unless its job has a result already.

    Raises InvalidPayload, CorruptResult, StorageUnavailable, and every error of the task.
    """
    parameters = validated(body, given)
    async with _sending_started():
        receipt = await _earlier_receipt(parameters["results_directory"])
        return await body(**parameters) if receipt is None else receipt


def validated(body: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Convert parameters to the types in the signature of `body`. Raises InvalidPayload."""
    hints = get_type_hints(body, include_extras=True)
    parameters: dict[str, Any] = {}
    for name, value in given.items():
        try:
            parameters[name] = TypeAdapter[Any](hints[name]).validate_python(value)
        except ValidationError as error:
            raise InvalidPayload.of(name, error) from error
    return parameters


@dataclass(frozen=True)
class Job:
    """The attempt that this process runs, with its stage."""

    id: UUID
    attempt: int
    flow_run: UUID
    task: str
    parameters: dict[str, Any]
    submitted: datetime
    results: ResultsRoot
    stage: Stage
    user: str | None = None
    """The user of the gateway whose job it is."""
    kept: timedelta | None = None
    """How long its result is kept, where the job says so."""
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Labels of the flow run. Later attempts inherit them, except Prefect's own."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def publish(
        self, summary: dict[str, Any], notes: str = "", appendix: str = ""
    ) -> Receipt:
        """Publish the staged files and list them in the UI.

        `summary` goes into the manifest, `notes` (markdown) above the list of files and `appendix`
        below it. Of several attempts at one job only the first publishes; the others return its
        receipt. Raises StageDiscarded where another one did, and this one was declared lost before.
        """
        files = await off_the_loop(self.results, "store the files", self.stage.store)
        now = datetime.now(UTC)
        manifest = Manifest(
            job=self.id,
            task=self.task,
            attempt=self.attempt,
            flow_run=self.flow_run,
            parameters=self.parameters,
            submitted=self.submitted,
            started=self.started,
            published=now,
            user=self.user,
            expires=None if self.kept is None else now + self.kept,
            summary=summary,
            files=files,
        )
        publish = functools.partial(self.stage.publish, manifest)
        result = await off_the_loop(self.results, "publish the result", publish)
        if result.manifest.flow_run != self.flow_run and await _is_over(self.flow_run):
            raise StageDiscarded(f"attempt {result.manifest.attempt} has published already")
        number = len(result.manifest.files)
        get_run_logger().info(
            "published %s, %s bytes: %s",
            f"{number:,} file{'' if number == 1 else 's'}",
            f"{result.manifest.bytes:,}",
            result.location,
        )
        return await _list_result(result, notes, appendix)

    async def set_aside(self, folder: Path, notes: str) -> str:
        """Keep the files of a job that fails, beside the place of its result, and list them in the
        UI. Returns their location."""
        names = sorted(path.name for path in folder.iterdir())
        keep = functools.partial(self.stage.set_aside, folder)
        location = await off_the_loop(self.results, "keep the logs", keep)
        files = "\n".join(f"- `{name}`" for name in names)
        await _show_artifact(
            f"## {self.task} failed\n\n{notes}\n\n`{location}`\n\n{files}\n", location
        )
        return location

    async def label(self, name: str, value: str) -> None:
        """Label the flow run: later attempts at the job find the value in `labels`."""
        if reports_to_server():
            async with get_client() as client:
                await client.update_flow_run_labels(self.flow_run, {name: value})


@asynccontextmanager
async def open_job(results_directory: str) -> AsyncGenerator[Job]:
    """Open the job of the calling flow run, with a stage that is removed when the block ends."""
    run, task = this_run()
    job = job_id(run.labels, run.id)
    root = open_results(run_settings())
    async with in_threads(root.open_stage(results_directory, job, run.id)) as stage:
        yield Job(
            id=job,
            attempt=attempt_number(run.labels),
            flow_run=run.id,
            task=task,
            parameters=run.parameters,
            submitted=run.created or datetime.now(UTC),
            results=root,
            stage=stage,
            user=user_of(run.tags),
            kept=_kept(run),
            labels=run.labels,
        )


async def _is_over(flow_run: UUID) -> bool:
    """Whether the server has a final state of this attempt, which still runs. False where it does
    not answer."""
    if not reports_to_server():
        return False
    try:
        async with get_client() as client:
            state = (await client.read_flow_run(flow_run)).state
    except (httpx.HTTPError, ObjectNotFound):
        return False
    return state is not None and state.is_final()


async def off_the_loop(root: ResultsRoot, doing: str, work: Callable[[], T]) -> T:
    """Run blocking work in a thread; as a task with retries where the storage is remote."""
    if root.fails_transiently:
        return await as_task(with_retries)(doing, work)
    return await asyncio.to_thread(work)


def _kept(run: FlowRun) -> timedelta | None:
    """How long the result of a run's job is kept; None where the job does not say."""
    seconds = (run.job_variables or {}).get(KEPT_VARIABLE)
    return timedelta(seconds=seconds) if isinstance(seconds, int) and seconds > 0 else None


def this_run() -> tuple[FlowRun, str]:
    """Return the calling flow run and the name of its compute task. Raises RuntimeError outside."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("a job is known only inside its flow run")
    return context.flow_run, context.flow.name if context.flow else "unknown"


@asynccontextmanager
async def _sending_started() -> AsyncGenerator[None]:
    """Send the event that an attempt has started, while the block runs and a moment longer."""
    run, task = this_run()
    attempt = attempt_number(run.labels)
    event = JobStarted(**about(run, task), attempt=attempt, flow_run=run.id)
    sending = asyncio.create_task(job_moved(event, run))
    try:
        yield
    except asyncio.CancelledError:
        sending.cancel()  # the attempt must end now
        raise
    finally:
        await let_finish(sending)


async def _earlier_receipt(results_directory: str) -> Receipt | None:
    """Return the receipt of the job's result where an earlier attempt published one, else None.

    That attempt may have been killed after it published. Raises CorruptResult where the manifest
    is not valid.
    """
    run, _ = this_run()
    job, root = job_id(run.labels, run.id), open_results(run_settings())
    find = functools.partial(root.find, results_directory, job)
    result = await off_the_loop(root, "look for an earlier result", find)
    if result is None:
        return None
    attempt = result.manifest.attempt
    get_run_logger().info("attempt %s has published already: %s", attempt, result.location)
    return await _list_result(result)


async def _list_result(result: Result, notes: str = "", appendix: str = "") -> Receipt:
    """List a result in the UI and return its receipt."""
    manifest, location = result.manifest, result.location
    await _show_artifact(
        listing(result, notes, appendix),
        f"{len(manifest.files):,} files, {manifest.bytes:,} bytes: {location}",
    )
    return Receipt(
        job=manifest.job, location=location, files=len(manifest.files), bytes=manifest.bytes
    )


async def _show_artifact(markdown: str, description: str) -> None:
    if not reports_to_server():
        return
    try:
        await create_artifact(this_run()[0].id, "markdown", markdown, description)
    except httpx.HTTPError as error:
        # The result is published: a missing list in the UI is no failure.
        get_run_logger().warning("the files could not be listed in the UI: %s", error)
