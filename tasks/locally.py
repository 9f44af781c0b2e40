"""Run a compute task without a server, to try it or to test it."""

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

_NO_API = "No Prefect API URL provided"  # begins the error of a Prefect client without a server


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

    The payload is checked by its JSON schema, as on the server, and by its model, as in a job.
    Files are staged and published as a job's are. `folder` is the results root; the result is in
    `<folder>/<results directory>/<job id>/`. Nothing is reported to a server: no events, no
    artifacts, no retries of S3, no helper runs. Blocks until the task ends; within an event loop,
    call it with `asyncio.to_thread`.

    `inputs`: the inputs root; the default is that of the settings. `results_directory`: the
    default is the name of the task. `job`: the id of an earlier call, to return its result where
    there is one.
    Raises InvalidPayload where a parameter is not valid, OperatorError where `flow` is no compute
    task, publishes nothing or calls Prefect's API, and every error of the task: the message of a
    JobError is the line that the state of a job would show.
    """
    function = _function(flow)
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
    with _run_context(flow, run), settings_in_force(settings):
        _run(perform(function, parameters))
    result = open_results(settings).find(directory, number)
    if result is None:
        raise OperatorError(
            f"{flow.name} has published nothing: its last line is `return await job.publish(...)`"
        )
    return result


def _function(flow: Flow[..., Any]) -> Callable[..., Coroutine[Any, Any, Receipt]]:
    """Return the function that was decorated as a compute task."""
    if declared(flow.fn) is None:
        raise OperatorError(f"{flow.name} is no compute task: decorate it with @compute_task")
    return inspect.unwrap(flow.fn)


def _settings(folder: Path, inputs: Path | str | None) -> Settings:
    values: dict[str, Any] = {"results_root": folder.resolve()}
    if inputs is not None:
        values["inputs_root"] = Path(inputs).resolve()
    return Settings(**values)


def _plain(payload: Mapping[str, Any] | BaseModel) -> Any:
    """Convert a payload to plain JSON values, as a server returns them."""
    if isinstance(payload, BaseModel):
        payload = payload.model_dump(mode="json", exclude_unset=True)
    try:
        return json.loads(json.dumps(dict(payload), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload is not JSON: {error}") from error


def _check(flow: Flow[..., Any], parameters: dict[str, Any]) -> None:
    """Check the parameters as `prefecture submit` and the server do. Raises InvalidPayload."""
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
def _run_context(flow: Flow[..., Any], run: FlowRun) -> Generator[None]:
    """Give the block the context of a flow run, without a server."""
    # Not the constructor, which requires a client.
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
            "the task calls Prefect's API, perhaps for a task or a block, and run_locally has no "
            "server: submit it to a server"
        ) from error
