"""A compute task as Prefect sees it: one flow run is one attempt at a job."""

import asyncio
import errno
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ParamSpec, cast, get_type_hints
from uuid import UUID

import httpx
from prefect import Flow, State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Failed
from pydantic import TypeAdapter, ValidationError

from tasks import objects
from tasks.contracts import ATTEMPT_LABEL, RESULT_BLOCK, Manifest, Receipt, job_id
from tasks.errors import InvalidPayload, PrefectureError
from tasks.inputs import InputFile, find_local
from tasks.results import local
from tasks.settings import get_settings

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # met in the middle of the work itself

P = ParamSpec("P")
_Body = Callable[P, Coroutine[Any, Any, Receipt]]
_Returned = dict[str, Any]  # a Receipt as plain JSON, which anyone can read without our classes


def compute_task(name: str) -> Callable[[_Body[P]], Flow[P, Coroutine[Any, Any, _Returned]]]:
    """Make a flow of an async function that takes a payload and a results directory.

    An error of ours ends the run Failed with its one line and no traceback.
    Parameters are validated here and not by Prefect, whose message takes several lines.
    """

    def decorate(body: _Body[P]) -> Flow[P, Coroutine[Any, Any, _Returned]]:
        @functools.wraps(body)
        async def attempt(*args: P.args, **kwargs: P.kwargs) -> _Returned | State:
            try:
                given = inspect.signature(body).bind(*args, **kwargs).arguments
                receipt = await body(**_validated(body, given))  # pyright: ignore[reportCallIssue]  # validated against body's own signature
                return receipt.model_dump(mode="json")
            except PrefectureError as error:
                get_run_logger().error("%s", error)
                return Failed(message=str(error))
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                message = str(local.unwritable(get_settings().results, error))
                get_run_logger().error("%s", message)
                return Failed(message=message)

        made = flow(
            name=name,
            validate_parameters=False,
            persist_result=True,
            result_storage=f"local-file-system/{RESULT_BLOCK}",
            result_serializer="json",
        )(attempt)
        return cast(Flow[P, Coroutine[Any, Any, _Returned]], made)

    return decorate


def _validated(body: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the types that `body` names. Raises InvalidPayload with one line."""
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
    """The attempt that this process runs, and the stage it works on."""

    id: UUID
    attempt: int
    flow_run: UUID
    task: str
    parameters: dict[str, Any]
    submitted: datetime
    stage: local.Stage
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def publish(
        self, summary: dict[str, Any], notes: str = "", appendix: str = ""
    ) -> Receipt:
        """Publish what is staged and list it in the UI.

        `summary` goes into the manifest, `notes` (markdown) above the list of files and `appendix`
        below it. Of several attempts at one job only the first publishes; the others return its
        receipt.
        """
        files = await asyncio.to_thread(local.inventory, self.stage.files)
        manifest = await asyncio.to_thread(
            local.publish,
            self.stage,
            Manifest(
                job=self.id,
                task=self.task,
                attempt=self.attempt,
                flow_run=self.flow_run,
                parameters=self.parameters,
                submitted=self.submitted,
                started=self.started,
                published=datetime.now(UTC),
                summary=summary,
                files=files,
            ),
        )
        location = str(self.stage.target)
        log = get_run_logger()
        log.info(
            "published %s files, %s bytes: %s", f"{len(files):,}", f"{manifest.bytes:,}", location
        )
        try:
            await acreate_markdown_artifact(
                _listing(location, manifest, notes, appendix),
                description=f"{len(manifest.files):,} files, {manifest.bytes:,} bytes: {location}",
            )
        except httpx.HTTPError as error:
            # The result stands: a missing list in the UI must not make a failure of it.
            log.warning("the results could not be listed in the UI: %s", error)
        return Receipt(
            job=self.id, location=location, files=len(manifest.files), bytes=manifest.bytes
        )


@asynccontextmanager
async def open_job(results_directory: str) -> AsyncGenerator[Job]:
    """The job of the flow run that calls this, with a stage that is removed when the block ends."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("open_job() works inside a flow run only")
    run = context.flow_run
    job = job_id(run.labels, run.id)
    with local.open_stage(get_settings().results, results_directory, job, run.id) as stage:
        yield Job(
            id=job,
            attempt=int(run.labels.get(ATTEMPT_LABEL, 1)),
            flow_run=run.id,
            task=context.flow.name if context.flow else "unknown",
            parameters=run.parameters,
            submitted=run.created or datetime.now(UTC),
            stage=stage,
        )


async def find_inputs(source: str) -> list[InputFile]:
    """The files that a source names, in the inputs root or in S3. Raises SourceNotFound."""
    settings = get_settings()
    if objects.is_s3(source):
        client = await objects.connect(settings.s3_credentials)
        return list(await asyncio.to_thread(objects.find_objects, source, client))
    return list(await asyncio.to_thread(find_local, source, settings.inputs))


_LISTED = 100  # files in the artifact; all of them are in the manifest


def _listing(location: str, manifest: Manifest, notes: str, appendix: str) -> str:
    rows = "\n".join(
        f"| `{_cell(file.path)}` | {file.bytes:,} |" for file in manifest.files[:_LISTED]
    )
    more = len(manifest.files) - _LISTED
    rest = f"\n\n… and {more:,} more: see `manifest.json` there." if more > 0 else ""
    attempt = f", attempt {manifest.attempt}" if manifest.attempt > 1 else ""
    return (
        f"## {manifest.task}: {len(manifest.files):,} files, {manifest.bytes:,} bytes{attempt}\n\n"
        f"`{location}`\n\n{notes}\n\n| file | bytes |\n|---|---:|\n{rows}{rest}\n\n{appendix}\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
