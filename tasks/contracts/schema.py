"""Parts of JSON schemas that Prefect's server checks, with refusals in words.

The server refuses a value with the message of the keyword that it violates. That of `pattern` shows
the regular expression, that of `oneOf` the whole payload. `if` and `then` make a schema choose
another keyword: `const` and `required` are refused with a text of ours. Neither of Prefect's forms
reads `if`, so that the fields look the same.
"""

import json
from collections.abc import Sequence
from typing import Any

BLANK: dict[str, Any] = {"enum": [None, ""]}
"""Of a field with a text: null or empty, which counts as left out. A field that is absent, too."""


def expect(expected: str, **schema: Any) -> dict[str, Any]:
    """Of a field: it is null, or as `schema` says. A refusal says that `expected` was expected.

    Null is what a form sends of a field left blank; where that is no value, `type` refuses it.
    `expected` is words such as "a name such as holiday", without single quotes.
    """
    return {
        "if": {"not": {"anyOf": [{"type": "null"}, schema]}},
        "then": {"const": expected},
    }


def matches(pattern: str, expected: str) -> dict[str, Any]:
    """Of a field: it is a string that matches `pattern`, refused as `expect` says."""
    return expect(expected, type="string", pattern=pattern)


def one_of_two(first: str, second: str, blank: dict[str, Any]) -> dict[str, Any]:
    """Of an object: it has one of two fields. `blank` is the schema of the second one left blank.

    No condition uses `required`: Prefect removes that keyword where it checks parameters that need
    not be complete, such as those of a deployment or a schedule.
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
    """Of an object in a form: each field that it has is blank, so that nothing was filled in."""
    return {"type": ["object", "null"], "properties": fields}


def arrange(schema: dict[str, Any], order: Sequence[str]) -> None:
    """Put the fields of a model in the order of use, and an example into each one's description.

    A form shows fields in the order of the schema, which else is that of their definition: required
    ones come first here, then those in `order`, then all others. Neither form shows `examples`.
    """
    fields: dict[str, Any] = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    schema["properties"] = {
        name: _with_example(fields[name]) for name in dict.fromkeys((*required, *order, *fields))
    }


def _with_example(field: dict[str, Any]) -> dict[str, Any]:
    """A field whose description ends with an example, unless it has one or has fields itself."""
    examples = [_shown(example) for example in field.get("examples", [])]
    description: str = field.get("description", "")
    if not examples or "$ref" in field or any(example in description for example in examples):
        return field
    return field | {"description": f"{description} Example: {examples[0]}".lstrip()}


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
