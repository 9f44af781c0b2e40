"""The compute tasks on the server: their payloads' fields, and a working example of each."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from deployments.jobs.queries.listing import read_task_names
from deployments.jobs.records import ComputeTask, PayloadField
from tasks.contracts import Queue
from tasks.errors import InvalidPayload
from tasks.prefect_api.pages import PAGE

_DIRECTORY = "results_directory"  # a parameter of every compute task, and of no other flow
_SAMPLES = "`prefecture samples` puts photographs there"
_PULLED = "it needs a Docker engine that has the image or can pull it"
# For tasks whose schema alone makes no working payload: it must name existing files, or a command
# that writes something. The examples of other tasks are built from their schema.
_EXAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "compress-images": ({"source": "photos", "ratio": 0.4}, _SAMPLES),
    "convert-images": ({"source": "photos", "format": "webp"}, _SAMPLES),
    "average-files": ({"generate": {"files": 40, "numbers": 100_000}}, ""),
    "run-container": (
        {"image": "debian:12", "command": ["sh", "-c", "echo hello > /output/hello.txt"]},
        _PULLED,
    ),
    "generate-data": (
        {
            "topic": "clicks",
            "duration": 10,
            "image": "debian:12",
            "command": ["sh", "-c", "while sleep 1; do echo '{\"clicks\": 1}'; done"],
        },
        _PULLED,
    ),
}


async def list_tasks(client: PrefectClient) -> list[ComputeTask]:
    """All compute tasks on the server, sorted by name."""
    names = await read_task_names(client)
    found: dict[str, dict[str, DeploymentResponse]] = {}
    async for deployment in _deployments(client):
        schema = deployment.parameter_openapi_schema or {}
        if _DIRECTORY in schema.get("properties", {}):
            task = names.get(UUID(str(deployment.flow_id)), "unknown")
            found.setdefault(task, {})[deployment.name] = deployment
    return [_task(name, found[name]) for name in sorted(found)]


async def find_task(client: PrefectClient, name: str) -> ComputeTask:
    """Find a compute task by its name. Raises InvalidPayload where there is none."""
    tasks = {task.name: task for task in await list_tasks(client)}
    if name not in tasks:
        known = (
            f"choose {', '.join(tasks)}" if tasks else "`prefecture apply` puts them on the server"
        )
        raise InvalidPayload(f"there is no compute task '{name[:100]}': {known}")
    return tasks[name]


def payload_fields(schema: Mapping[str, Any]) -> tuple[PayloadField, ...]:
    """The fields of a payload and of the objects inside it, from the parameters' schema."""
    definitions: Mapping[str, Any] = schema.get("definitions", {})
    payload = _resolve(schema.get("properties", {}).get("payload", {}), definitions)
    return tuple(_fields(payload, definitions, ""))


def example_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A payload built from the first example of each required field."""
    definitions: Mapping[str, Any] = schema.get("definitions", {})
    payload = _resolve(schema.get("properties", {}).get("payload", {}), definitions)
    return _example(payload, definitions)


async def _deployments(client: PrefectClient) -> AsyncGenerator[DeploymentResponse]:
    start = 0
    while True:
        page = await client.read_deployments(limit=PAGE, offset=start)
        for deployment in page:
            yield deployment
        if len(page) < PAGE:
            return
        start += PAGE


def _task(name: str, deployments: Mapping[str, DeploymentResponse]) -> ComputeTask:
    ordered = [*(queue for queue in Queue if queue in deployments)]
    ordered += sorted(deployments.keys() - set(Queue))
    first = deployments[ordered[0]]
    schema = first.parameter_openapi_schema or {}
    example, needs = _EXAMPLES.get(name) or (example_of(schema), "")
    return ComputeTask(
        name=name,
        description=first.description or "",
        queues=tuple(map(str, ordered)),
        fields=payload_fields(schema),
        example=example,
        example_needs=needs,
        schema=schema,
    )


def _fields(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str
) -> Iterator[PayloadField]:
    required = set(schema.get("required", []))
    for name, given in schema.get("properties", {}).items():
        field = _resolve(given, definitions)
        has_default = "default" in field and field["default"] not in (None, [], {}, "")
        yield PayloadField(
            name=f"{path}{name}",
            type=_in_words(field, definitions),
            required=name in required,
            default=json.dumps(field["default"]) if has_default else "",
            description=str(field.get("description", "")),
        )
        if "properties" in field:
            yield from _fields(field, definitions, f"{path}{name}.")


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema merged with the definition that it refers to; its own entries win."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target = _resolve(definitions.get(str(reference).rpartition("/")[2], {}), definitions)
    return {**target, **{name: value for name, value in schema.items() if name != "$ref"}}


def _in_words(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The type of a value in words, with its bounds."""
    schema = _resolve(schema, definitions)
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    choices = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if choices:
        words = [_in_words(choice, definitions) for choice in choices]
        return " or ".join(dict.fromkeys(words))
    match schema.get("type"):
        case "integer":
            return f"whole number{_bounds(schema)}"
        case "number":
            return f"number{_bounds(schema)}"
        case "string":
            return "time, ISO 8601" if schema.get("format") == "date-time" else "text"
        case "boolean":
            return "true or false"
        case "array":
            items = _in_words(schema.get("items", {}), definitions)
            return f"list: {items}" if items.startswith("one of") else f"list of {items}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object: {_in_words(schema['additionalProperties'], definitions)} by name"
        case str() as kind:
            return kind
        case _:
            return "anything"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    parts = [
        f"{word} {bound:,}"
        for word, bound in (("at least", low), ("over", above), ("up to", high), ("under", below))
        if bound is not None
    ]
    return f", {' and '.join(parts)}" if parts else ""


def _example(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    fields = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
    required = cast("list[str]", schema.get("required", []))
    return {name: _value(_resolve(fields[name], definitions), definitions) for name in required}


def _value(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "default" in schema:
        return schema["default"]
    if "properties" in schema:
        return _example(schema, definitions)
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return {}
        case _:
            return "text"
