"""The sources in a payload, by the schema of its task. Nothing here imports Prefect."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from tasks.contracts.names import SOURCE_MARK

Keys = tuple[str, ...]
"""Where a source is in a payload: `("build", "context")`."""


def texts_at(payload: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    """The sources that a payload names. `schema`: of the parameters of its task."""
    for keys in source_fields(schema):
        value: Any = payload
        for key in keys:
            value = (
                cast("Mapping[str, Any]", value).get(key) if isinstance(value, Mapping) else None
            )
        if isinstance(value, str):
            yield keys, value


def with_text(payload: Mapping[str, Any], keys: Keys, text: str) -> dict[str, Any]:
    """A payload with another source."""
    key, *rest = keys
    return {**payload, key: with_text(payload[key], tuple(rest), text) if rest else text}


def source_fields(schema: Mapping[str, Any]) -> Iterator[Keys]:
    """The fields of a payload that are sources, by the schema of its task's parameters."""
    definitions = schema.get("definitions", {})
    yield from _fields(schema.get("properties", {}).get("payload", {}), definitions, ())


def _fields(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: Keys
) -> Iterator[Keys]:
    if reference := schema.get("$ref"):
        schema = {**definitions.get(str(reference).rpartition("/")[2], {}), **schema}
    for part in schema.get("allOf", []):
        yield from _fields(part, definitions, path)
    for name, field in schema.get("properties", {}).items():
        if field.get(SOURCE_MARK):
            yield (*path, name)
        elif len(path) < 3:  # no payload is deeper; a definition may name itself
            yield from _fields(field, definitions, (*path, name))
