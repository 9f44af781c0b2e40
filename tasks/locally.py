"""A compute task without a server: to try it, and to test it."""

import asyncio
import inspect
import json
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect import Flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks.contracts import Receipt, ResultsDirectory, declared
from tasks.errors import InvalidPayload, OperatorError
from tasks.reporting import without_server
from tasks.runtime.compute_task import perform
from tasks.settings import Settings, settings_in_force
from tasks.storage.results.interface import Result
from tasks.storage.results.opening import open_results

_NO_API = "No Prefect API URL provided"  # how Prefect's client says that it has no server


def run_locally(
    flow: Flow[..., Any],
    payload: Mapping[str, Any] | BaseModel,
    folder: Path | str,
    *,
    inputs: Path | str | None = None,
    results_directory: str | None = None,
    job: UUID | None = None,
) -> Result:
    """Run a compute task in this process, and return its result with the manifest.

    The payload is checked as the server does, by its JSON schema, and as a job does. Files are
    staged and published as a job's are: `folder` is the results root, and the result is in
    `<folder>/<results directory>/<job id>/`. Nothing is reported to a server: no events, no
    artifacts, no retries of S3, no helper runs. Blocks until the task has ended; within an event
    loop, call it by `asyncio.to_thread`.

    `inputs`: the inputs root; the settings' if left out. `results_directory`: the task's name if
    left out. `job`: the id of an earlier call, whose result is returned where it stands.
    Raises InvalidPayload, OperatorError where `flow` is no compute task or calls Prefect's API,
    and whatever the task raises: JobError with the line that the state of a job would show.
    """
    body = _body(flow)
    settings = _settings(Path(folder), inputs)
    directory = flow.name if results_directory is None else results_directory
    parameters = {"payload": _plain(payload), "results_directory": directory}
    _check(flow, parameters)
    number = job or uuid4()
    run = FlowRun.model_validate(
        {
            "id": number,
            "name": "local",
            "flow_id": uuid4(),
            "created": datetime.now(UTC),
            "parameters": parameters,
        }
    )
    with _alone(flow, run), settings_in_force(settings):
        _run(perform(body, parameters))
    result = open_results(settings).find(directory, number)
    if result is None:
        raise OperatorError(
            f"{flow.name} has published nothing: its last line is `return await job.publish(...)`"
        )
    return result


def _body(flow: Flow[..., Any]) -> Callable[..., Coroutine[Any, Any, Receipt]]:
    """The function that was made a compute task."""
    if declared(flow.fn) is None:
        raise OperatorError(f"{flow.name} is no compute task: decorate it with @compute_task")
    return inspect.unwrap(flow.fn)


def _settings(folder: Path, inputs: Path | str | None) -> Settings:
    values: dict[str, Any] = {"results_root": folder.resolve()}
    if inputs is not None:
        values["inputs_root"] = Path(inputs).resolve()
    return Settings(**values)


def _plain(payload: Mapping[str, Any] | BaseModel) -> Any:
    """The payload as it comes back from a server: JSON."""
    if isinstance(payload, BaseModel):
        payload = payload.model_dump(mode="json", exclude_unset=True)
    try:
        return json.loads(json.dumps(dict(payload), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload is not JSON: {error}") from error


def _check(flow: Flow[..., Any], parameters: dict[str, Any]) -> None:
    """What is checked when a job is submitted: here, and by the server."""
    try:
        TypeAdapter[str](ResultsDirectory).validate_python(parameters["results_directory"])
    except ValidationError as error:
        raise InvalidPayload.of("results_directory", error) from error
    schema = flow.parameters.model_dump_for_openapi() | {"additionalProperties": False}
    try:
        validate(parameters, schema, raise_on_error=True)
    except SchemaError as error:
        raise InvalidPayload(" ".join(str(error).split())) from error


@contextmanager
def _alone(flow: Flow[..., Any], run: FlowRun) -> Generator[None]:
    """What a flow run sees of Prefect, without a server: itself and its logger."""
    # Not the constructor, which wants a client.
    context = FlowRunContext.model_construct(
        flow=flow, flow_run=run, parameters=run.parameters, task_runner=flow.task_runner
    )
    no_server = temporary_settings(
        {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False, PREFECT_LOGGING_TO_API_ENABLED: False},
        restore_defaults={PREFECT_API_URL},
    )
    with no_server, without_server(), context:
        yield


def _run(work: Coroutine[Any, Any, Receipt]) -> None:
    try:
        asyncio.run(work)
    except ValueError as error:
        if not str(error).startswith(_NO_API):
            raise
        raise OperatorError(
            "the task calls Prefect's API, a task or a block perhaps, and run_locally has no "
            "server: submit it to one"
        ) from error
