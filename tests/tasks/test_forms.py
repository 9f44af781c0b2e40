"""What a person reads in a form, and what the server refuses, by the schemas of the deployments."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.schema_tools.validation import build_error_obj, validate
from pydantic import TypeAdapter, ValidationError

from flows.average_files import average_files
from flows.compress_images import compress_images
from flows.convert_images import convert_images
from flows.find_primes import find_primes
from flows.generate_data import generate_data
from flows.run_container import run_container
from tasks.contracts import GenerateData, RunContainer

FLOWS: tuple[Flow[..., Any], ...] = (
    *(compress_images, convert_images, find_primes, average_files),
    *(run_container, generate_data),
)
# As the server keeps them.
SCHEMAS = {
    flow.name: json.loads(json.dumps(parameter_schema(flow).model_dump_for_openapi()))
    for flow in FLOWS
}
LEAST: dict[str, dict[str, Any]] = {
    "compress-images": {"source": "a", "ratio": 0.5},
    "convert-images": {"source": "a", "format": "png"},
    "find-primes": {"upper_bound": 10},
    "average-files": {"source": "a"},
    "run-container": {"image": "a"},
    "generate-data": {"image": "a", "topic": "clicks", "duration": 1},
}
FILES = {"files": 1, "numbers": 1}
BLANK: list[dict[str, Any]] = [{}, {"files": {"__prefect_kind": "json"}}]
DIRECTORY = "a name such as holiday or trips/2026"
SOURCE = "a path or glob under the inputs root, such as photos or photos/*.jpg"
TOPIC = "a name such as clicks"
TIME = "a time with its zone, such as 2030-01-31T08:00:00+00:00"
# A task, fields beside the least, and what the refusal says.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *(("compress-images", {"source": value}, SOURCE) for value in ("/etc", "a\\b", "a\n")),
    *(("generate-data", {"topic": value}, TOPIC) for value in ("a b", "../x", "kafka://h")),
    *(("generate-data", {"start": value}, TIME) for value in ("tomorrow", "2030-01-31", "", 7)),
    *(("generate-data", {"start": value}, TIME) for value in ("2030-13-01T00:00:00Z", "8:00")),
    ("generate-data", {"start": "2030-01-31T08:00:00"}, TIME),
    ("average-files", {"source": None}, "'source or generate' is a required property"),
    ("average-files", {"generate": FILES}, "source or generate, not both"),
    ("average-files", {"partition": "x"}, "a number of files, such as 100"),
    *(("run-container", {"image": value}, "the name of an image") for value in (7, ["a"])),
    *(("run-container", {"image": value}, "'image or build' is") for value in (None, "")),
    ("run-container", {"build": {"dockerfile": "FROM a"}}, "image or build, not both"),
    ("run-container", {"image": None, "build": {}}, "'image or build' is a required property"),
    ("run-container", {"image": None, "build": {"files": {"a": ""}}}, "'dockerfile or context'"),
    ("run-container", {"environment": "COLOR=red"}, 'a list such as ["COLOR=red"]'),
    ("run-container", {"environment": ["red"]}, "such as COLOR=red"),
    ("run-container", {"environment": ["=red"]}, "such as COLOR=red"),
    ("run-container", {"environment": {"A-B": "x"}}, "a name of a variable, such as COLOR"),
    ("run-container", {"command": "ls -l"}, 'a list of words, such as ["ls", "-l"]'),
    *(("run-container", {"memory": value}, "6m at least") for value in ("5m", "6143k", "1.5g")),
    ("run-container", {"output": "1 GB"}, "a number and k, m or g, such as 512m"),
    ("run-container", {"inputs": "/data"}, SOURCE),
    ("run-container", {"registry_credentials": "team"}, "docker-registry-credentials/team"),
    (
        "run-container",
        {"image": None, "build": {"dockerfile": "FROM a", "files": {"../a": "x"}}},
        "a relative path without .., such as run.sh",
    ),
]
TAKEN: list[tuple[str, dict[str, Any]]] = [
    *(("generate-data", {"start": value}) for value in (None, "2030-01-31T08:00:00.000Z")),
    *(("generate-data", {"start": f"2030-01-31T08:00:00{zone}"}) for zone in ("+01:00", "-0530")),
    ("generate-data", {"topic": "kafka://[::1]:9092,b:1/clicks"}),
    ("average-files", {"source": None, "generate": FILES}),
    *(("run-container", {"build": blank}) for blank in BLANK),
    ("run-container", {"image": None, "build": {"context": "images/simulator"}}),
    ("run-container", {"image": None, "build": {"files": {"Dockerfile": "FROM a"}}}),
    *(("run-container", {"environment": value}) for value in (["A=b=c", "B="], ["A="])),
    ("run-container", {"environment": {}}),
    ("run-container", {"environment": {"A": "b=c", "B": ""}}),
]


def check(task: str, payload: object, directory: object = "holiday", **how: bool) -> None:
    """What the API does with a request, before it makes a flow run."""
    parameters = {"payload": payload, "results_directory": directory}
    validate(parameters, SCHEMAS[task], raise_on_error=True, **how)


def fields(task: str) -> dict[str, dict[str, Any]]:
    """Every field of a form by its name, those of objects too."""
    schema = SCHEMAS[task]
    parts = [schema, *schema["definitions"].values()]
    return {name: field for part in parts for name, field in part["properties"].items()}


@pytest.mark.parametrize("task", LEAST)
def test_only_what_is_required(task: str) -> None:
    check(task, LEAST[task])


@pytest.mark.parametrize(("task", "more", "words"), REFUSED)
def test_a_refusal_is_in_words(task: str, more: dict[str, Any], words: str) -> None:
    payload = LEAST[task] | more
    with pytest.raises(SchemaError) as refused:
        check(task, payload)
    assert words in str(refused.value)
    assert "^" not in str(refused.value)
    assert "given schemas" not in str(refused.value)
    # The same beside the fields, which both of Prefect's forms ask another endpoint for.
    parameters = {"payload": payload, "results_directory": "holiday"}
    shown = json.dumps(build_error_obj(validate(parameters, SCHEMAS[task])))
    assert json.dumps(words)[1:-1] in shown
    assert "^" not in shown


@pytest.mark.parametrize("directory", ["../a", "/a", ".a", "a/../b", "a\n", "a\x00", 7])
@pytest.mark.parametrize("task", LEAST)
def test_a_directory_is_refused_in_words(task: str, directory: object) -> None:
    with pytest.raises(SchemaError) as refused:
        check(task, LEAST[task], directory)
    assert DIRECTORY in str(refused.value)
    assert "^" not in str(refused.value)


@pytest.mark.parametrize(("task", "more"), TAKEN)
def test_server_and_engine_take_it(task: str, more: dict[str, Any]) -> None:
    payload = LEAST[task] | more
    check(task, payload)
    flow = next(flow for flow in FLOWS if flow.name == task)
    flow.validate_parameters({"payload": payload, "results_directory": "holiday"})


@pytest.mark.parametrize("task", LEAST)
def test_parameters_of_a_deployment_need_not_be_complete(task: str) -> None:
    check(task, {}, ignore_required=True)
    check(task, LEAST[task], ignore_required=True)


def test_variables_as_a_list_are_those_by_name() -> None:
    by_name = {"image": "a", "environment": {"A": "b=c", "B": ""}}
    as_list = {"image": "a", "environment": ["A=b=c", "B="]}
    assert RunContainer.model_validate(by_name) == RunContainer.model_validate(as_list)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["red"], "'red' is no variable: write NAME=value, such as COLOR=red"),
        (["A=1", "A=2"], "A is there twice"),
        (["1=a"], "'1' is no name of a variable"),
        ([7], "7 is no variable"),
    ],
)
def test_what_is_no_list_of_variables(lines: list[Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RunContainer.model_validate({"image": "a", "environment": lines})


@pytest.mark.parametrize("task", LEAST)
def test_required_fields_come_first(task: str) -> None:
    for part in [SCHEMAS[task], *SCHEMAS[task]["definitions"].values()]:
        required = part.get("required", [])
        assert [*part["properties"]][: len(required)] == required


def test_fields_are_in_the_order_of_use() -> None:
    def order(task: str, model: str) -> list[str]:
        return [*SCHEMAS[task]["definitions"][model]["properties"]]

    assert order("run-container", "RunContainer")[:4] == ["image", "build", "command", "inputs"]
    first = ["topic", "duration", "image", "build", "command", "environment"]
    assert order("generate-data", "GenerateData")[:6] == first


@pytest.mark.parametrize("task", LEAST)
def test_each_field_shows_an_example(task: str) -> None:
    # Neither form shows `examples`; both show the description.
    for name, field in fields(task).items():
        if "$ref" in field:  # an object: its own fields have theirs
            continue
        examples = field["examples"]
        shown = [text if isinstance(text, str) else json.dumps(text) for text in examples]
        assert any(text in field["description"] for text in shown), name
        assert field["title"], name


@pytest.mark.parametrize("task", LEAST)
def test_each_example_is_taken(task: str) -> None:
    for model in SCHEMAS[task]["definitions"].values():
        for name, field in model["properties"].items():
            for value in field["examples"]:
                check(task, LEAST[task] | holding(model["title"], name, value))


def holding(model: str, name: str, value: Any) -> dict[str, Any]:
    """The fields of a payload that put a value into one of its own, or of an object in it."""
    if model == "Build":
        rest = {} if name == "dockerfile" else {"dockerfile": "FROM a"}
        return {"image": None, "build": rest | {name: value}}
    if model == "GenerateNumbers":
        return {"source": None, "generate": FILES | {name: value}}
    other = {"build": "image", "generate": "source"}.get(name)
    return {name: value} | ({other: None} if other else {})


sizes = st.from_regex(r"[0-9.]{1,6}[kmgKx]?\n?", fullmatch=True)


@settings(max_examples=40)
@given(sizes)
@example("6144k")
@example("6143k")
@example("5m")
@example("6m")
def test_server_and_engine_agree_on_memory(size: str) -> None:
    agree("run-container", {"image": "a", "memory": size}, TypeAdapter(RunContainer))


@settings(max_examples=40)
@given(st.one_of(st.datetimes().map(str), st.datetimes(timezones=st.timezones()).map(str)))
def test_what_the_server_takes_as_a_start_the_engine_takes(start: str) -> None:
    payload = LEAST["generate-data"] | {"start": start}
    try:
        check("generate-data", payload)
    except SchemaError:
        return
    assert GenerateData.model_validate(payload).starts()


def agree(task: str, payload: dict[str, Any], model: TypeAdapter[Any]) -> None:
    """Both take the payload, or both refuse it."""
    try:
        model.validate_python(payload)
        check(task, payload)
    except ValidationError:
        with pytest.raises(SchemaError):
            check(task, payload)
