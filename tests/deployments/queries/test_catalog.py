"""Payloads in words, and examples that their own models take."""

from typing import Any

import pytest

from deployments.jobs.queries import catalog
from deployments.jobs.queries.catalog import example_of, payload_fields
from tasks.contracts import (
    AverageFiles,
    CompressImages,
    ConvertImages,
    FindPrimes,
    GenerateData,
    Payload,
    RunContainer,
)

PAYLOADS: dict[str, type[Payload]] = {
    "average-files": AverageFiles,
    "compress-images": CompressImages,
    "convert-images": ConvertImages,
    "find-primes": FindPrimes,
    "generate-data": GenerateData,
    "run-container": RunContainer,
}


def parameters(payload: type[Payload]) -> dict[str, Any]:
    """The schema of a flow's parameters, as Prefect makes it."""
    schema = payload.model_json_schema(ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {}) | {payload.__name__: schema}
    reference = {"$ref": f"#/definitions/{payload.__name__}", "title": "payload"}
    return {"properties": {"payload": reference}, "definitions": definitions}


@pytest.mark.parametrize("task", PAYLOADS)
def test_example_is_a_payload_of_its_task(task: str) -> None:
    own = catalog._EXAMPLES.get(task)  # pyright: ignore[reportPrivateUsage]
    example = own[0] if own else example_of(parameters(PAYLOADS[task]))
    assert PAYLOADS[task].model_validate(example)


@pytest.mark.parametrize("task", PAYLOADS)
def test_every_field_is_described(task: str) -> None:
    fields = payload_fields(parameters(PAYLOADS[task]))
    assert {field.name for field in fields} >= set(PAYLOADS[task].model_fields)
    for field in fields:
        assert field.description, field.name
        assert field.type != "anything", field.name
        assert "^" not in field.type


def test_bounds_and_choices_in_words() -> None:
    words = {
        field.name: field
        for payload in (FindPrimes, CompressImages, ConvertImages, AverageFiles)
        for field in payload_fields(parameters(payload))
    }
    assert words["upper_bound"].type == "whole number, 2 to 10,000,000,000"
    assert words["ratio"].type == "number, over 0 and up to 1"
    assert words["format"].type == "one of jpeg, png, webp, avif, tiff"
    assert (words["not_finite"].default, words["not_finite"].required) == ('"refuse"', False)
    assert words["generate.numbers"].required


def test_task_of_somebody_else() -> None:
    schema = {
        "properties": {"payload": {"$ref": "#/definitions/Mine"}},
        "definitions": {
            "Mine": {
                "required": ["steps", "where", "mode", "on", "names"],
                "properties": {
                    "steps": {"type": "integer", "minimum": 5},
                    "where": {"$ref": "#/definitions/Place"},
                    "mode": {"enum": ["a", "b"]},
                    "on": {"type": "boolean"},
                    "names": {"type": "array", "items": {"type": "string"}},
                    "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                },
            },
            "Place": {"required": ["x"], "properties": {"x": {"type": "number"}}},
        },
    }
    place = {"x": 1}
    wanted: dict[str, Any] = {"steps": 5, "where": place, "mode": "a", "on": True, "names": []}
    assert example_of(schema) == wanted
    types = {field.name: field.type for field in payload_fields(schema)}
    assert types["either"] == "whole number or null"
    assert types["where.x"] == "number"
    assert types["names"] == "list of text"
