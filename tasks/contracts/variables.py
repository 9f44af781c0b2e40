"""Variables by name: the environment and the build arguments of a container."""

import re
from typing import Any, cast

from tasks.contracts.schema import expect, matches

MOST_VARIABLES = 200
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*(?![\s\S])"
VARIABLE_EXPECTED = "a name of a variable, such as COLOR, of letters, digits and _"
_ASSIGNMENT = r"^[A-Za-z_][A-Za-z0-9_]*="
_ASSIGNMENT_EXPECTED = "a variable and its value, such as COLOR=red"


def by_name(value: Any) -> Any:
    """Convert a list such as `["COLOR=red"]` to a mapping by name; other values are unchanged.

    Raises ValueError where an item has no `=`, or a name comes twice.
    """
    if not isinstance(value, list):
        return value
    found: dict[str, str] = {}
    for item in cast("list[Any]", value):
        name, equals, text = str(item).partition("=")
        if not equals:
            raise ValueError(f"{item!r} is no variable: write NAME=value, such as COLOR=red")
        if name in found:
            raise ValueError(f"{name} is there twice: leave one out")
        found[name] = text
    return found


def list_or_object(schema: dict[str, Any]) -> None:
    """Let a form offer a list of lines as the first choice, and JSON as the second."""
    by_name = {name: schema.pop(name) for name in ("type", "additionalProperties")}
    lines = {"title": "List", "type": "array", "items": {"type": "string"}}
    words = 'a list such as ["COLOR=red"], or an object such as {"COLOR": "red"}'
    schema |= {
        "anyOf": [lines, {"title": "JSON", **by_name}],
        # Not inside `anyOf`, whose error message in the forms does not say what is wrong.
        "items": matches(_ASSIGNMENT, _ASSIGNMENT_EXPECTED),
        "maxItems": MOST_VARIABLES,
        "propertyNames": matches(VARIABLE, VARIABLE_EXPECTED),
        **expect(words, type=["array", "object"]),
    }


def check_environment(value: dict[str, str]) -> dict[str, str]:
    """Raise ValueError where a name or a value cannot be an environment variable."""
    for name, text in value.items():
        if not re.match(VARIABLE, name):
            raise ValueError(
                f"{name!r} is no name of a variable: use letters, digits and _, no digit in front"
            )
        if "\0" in text:
            raise ValueError(f"{name}: a value cannot hold a NUL character: leave it out")
    return value
