"""Hand in a job, with everything checked that can be known before it runs."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import TypeAdapter, ValidationError

from tasks.contracts import Queue, ResultsDirectory
from tasks.errors import InvalidPayload

_RENDERED = "__prefect_kind"  # Prefect's API renders a value that holds this key as a template
_REFUSED = (400, 409, 422)


async def submit(
    client: PrefectClient,
    task: str,
    payload: Mapping[str, Any],
    results_directory: str,
    *,
    queue: str = Queue.NORMAL,
    tags: Iterable[str] = (),
) -> UUID:
    """Hand a job to the server and return its id at once. Raises InvalidPayload with one line."""
    parameters = {"payload": dict(payload), "results_directory": results_directory}
    check_queue(queue)
    refuse_templates(parameters, "")
    try:
        TypeAdapter[str](ResultsDirectory).validate_python(results_directory)
    except ValidationError as error:
        raise InvalidPayload.of("results_directory", error) from error
    try:
        deployment = await client.read_deployment_by_name(f"{task}/{queue}")
    except ObjectNotFound:
        raise InvalidPayload(
            f"there is no compute task '{task}': `prefect deployment ls` lists them, "
            "`prefecture apply` puts them on the server"
        ) from None
    body = {
        "parameters": parameters,
        "tags": list(tags),
        # Prefect's client sends a request again whose answer was lost: without a key, a second job.
        "idempotency_key": f"submit:{uuid4()}",
    }
    try:
        # Without a state in the body the server stamps the time: its clock, not ours, keeps the
        # queue first in, first out. Prefect's own method always sends one.
        response = await client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": deployment.id},
            json=body,
        )
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in _REFUSED:
            raise
        raise InvalidPayload(_detail(error)) from error
    return UUID(response.json()["id"])


def check_queue(queue: str) -> None:
    """Refuse a queue that is none of ours, which Prefect's API would silently create."""
    if queue not in set(Queue):
        raise InvalidPayload(f"there is no queue '{queue}': choose {', '.join(Queue)}")


def refuse_templates(value: Any, path: str) -> None:
    """Refuse the key that makes Prefect's API render a value, wherever it stands."""
    if isinstance(value, Mapping):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]  # JSON, of any depth
            if key == _RENDERED:
                raise InvalidPayload(f"{path or 'payload'}: the key {_RENDERED} is not allowed")
            refuse_templates(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            refuse_templates(inner, f"{path}.{index}")


def _detail(error: PrefectHTTPStatusError) -> str:
    body = error.response.json()
    text = body.get("detail") or body.get("exception_detail") or body
    return " ".join(str(text).removeprefix("Error creating flow run: ").split())
