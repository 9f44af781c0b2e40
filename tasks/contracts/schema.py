"""Parts of JSON schemas whose error messages, made by Prefect's server, are readable.

The server's message shows the keyword that a value violates: the regular expression of `pattern`,
or the whole payload for `oneOf`. Under `if` and `then`, a wrong value violates `const` or
`required` instead, whose messages show a text chosen here. Prefect's forms ignore `if`: the fields
look the same.
"""

import json
from collections.abc import Sequence
from typing import Any

BLANK: dict[str, Any] = {"enum": [None, ""]}
"""Schema of a text field that is null or empty, and so counts as left out."""


def expect(expected: str, **schema: Any) -> dict[str, Any]:
    """Schema of a field that is null or matches `schema`; the error message shows `expected`.

    A form sends null for a field left blank; where null is not allowed, `type` refuses it.
    `expected`: words such as "a name such as holiday", without single quotes.
    """
    return {
        "if": {"not": {"anyOf": [{"type": "null"}, schema]}},
        "then": {"const": expected},
    }


def matches(pattern: str, expected: str) -> dict[str, Any]:
    """Schema of a string field that matches `pattern`; the error message shows `expected`."""
    return expect(expected, type="string", pattern=pattern)


def one_of_two(first: str, second: str, blank: dict[str, Any]) -> dict[str, Any]:
    """Schema of an object that has exactly one of two fields.

    `blank`: schema of the second field left blank. No condition uses `required`: Prefect removes
    that keyword where parameters may be incomplete, as those of a deployment or a schedule.
    """
    no_first, no_second = {"properties": {first: BLANK}}, {"properties": {second: blank}}
    return {
        "if": {"allOf": [no_first, no_second]},
        "then": {"required": [f"{first} or {second}"]},
        "else": {
            "if": {"not": {"anyOf": [no_first, no_second]}},
            "then": {"properties": {first: {"const": f"{first} or {second}, not both"}}},
        },
    }


def blank_object(**fields: dict[str, Any]) -> dict[str, Any]:
    """Schema of an object in a form whose fields are all blank or absent."""
    return {"type": ["object", "null"], "properties": fields}


def arrange(schema: dict[str, Any], order: Sequence[str]) -> None:
    """Order the fields of a model's schema for a form, and add an example to each description.

    A form shows fields in the order of the schema: here the required ones, then those in `order`,
    then all others. Prefect's forms do not show `examples`.
    """
    fields: dict[str, Any] = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    schema["properties"] = {
        name: _with_example(fields[name]) for name in dict.fromkeys((*required, *order, *fields))
    }


def _with_example(field: dict[str, Any]) -> dict[str, Any]:
    """Add an example to a field's description, unless it has one or is an object with fields."""
    examples = [_shown(example) for example in field.get("examples", [])]
    description: str = field.get("description", "")
    if not examples or "$ref" in field or any(example in description for example in examples):
        return field
    return field | {"description": f"{description} Example: {examples[0]}".lstrip()}


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
