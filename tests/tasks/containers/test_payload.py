"""What run-container is given: bounded by its schema, and by what a schema cannot say."""

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contracts import RunContainer, size_in_bytes


def test_what_is_left_out() -> None:
    payload = RunContainer.model_validate({"image": "x"})
    assert (payload.cpus, payload.memory, payload.network) == (1.0, "512m", "none")
    assert (payload.output, payload.max_duration) == ("1g", 3600)
    assert (payload.command, payload.environment) == ([], {})


@pytest.mark.parametrize(
    "build",
    [
        {},
        {"files": {}},
        {"files": {"__prefect_kind": "json"}},
        {"dockerfile": "", "files": {"__prefect_kind": "json"}, "context": None},
        {"__prefect_kind": "json"},
        None,
    ],
)
def test_a_build_left_blank_in_a_form_is_none(build: Any) -> None:
    payload = RunContainer.model_validate({"image": "x", "build": build})
    assert payload == RunContainer.model_validate({"image": "x"})
    assert "build" not in payload.model_fields_set


def test_objects_left_blank_in_a_form_are_not_there() -> None:
    blank = {"__prefect_kind": "json"}
    payload = RunContainer.model_validate(
        {"build": {"dockerfile": "FROM x", "files": blank}, "environment": blank, "command": blank}
    )
    assert payload.build.files == payload.environment == {}
    assert payload.command == []
    blank_too = {"dockerfile": "FROM x", "context": None, "target": "", "args": blank}
    filled = RunContainer.model_validate({"build": blank_too, "shm": "", "entrypoint": []})
    assert filled.build.model_fields_set == {"dockerfile"}
    assert (filled.shared_memory(), filled.entrypoint) == (0, [])
    kept = RunContainer.model_validate(
        {"image": "x", "environment": {"__prefect_kind": "a", "A": "b"}}
    )
    assert kept.environment == {"__prefect_kind": "a", "A": "b"}


@pytest.mark.parametrize(("size", "bytes"), [("1k", 2**10), ("6m", 6 * 2**20), ("12g", 12 * 2**30)])
def test_sizes(size: str, bytes: int) -> None:
    assert size_in_bytes(size) == bytes


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "name either an image, or a build"),
        ({"image": "x", "build": {"dockerfile": "FROM x"}}, "name either an image, or a build"),
        ({"build": {}}, "name either an image, or a build"),
        ({"build": {"files": {"__prefect_kind": "json"}}}, "name either an image, or a build"),
        ({"build": {"files": {"a": "b"}}}, "there is no Dockerfile"),
        (
            {"build": {"dockerfile": "FROM x", "files": {"Dockerfile": "FROM y"}}},
            "the Dockerfile is there twice",
        ),
        ({"build": {"dockerfile": "FROM x", "files": {"../a": ""}}}, "'../a' is no name of a file"),
        ({"build": {"dockerfile": "FROM x", "files": {"/a": ""}}}, "'/a' is no name of a file"),
        ({"image": "x", "memory": "5m"}, "5m is less than the 6m"),
        ({"image": "x", "memory": "1.5g"}, "'1.5g' is not a number and k, m or g"),
        ({"image": "x", "shm": "64"}, "'64' is not a number and k, m or g"),
        ({"image": "x", "entrypoint": ["a\0b"]}, "a command cannot hold a NUL"),
        (
            {"build": {"dockerfile": "FROM x", "args": {"A-B": "1"}}},
            "'A-B' is no name of a variable",
        ),
        ({"image": "x", "memory": "64m\n"}, "is not a number and k, m or g"),
        ({"image": "x", "environment": {"": "x"}}, "'' is no name of a variable"),
        ({"image": "x", "environment": {"A=B": "x"}}, "'A=B' is no name of a variable"),
        ({"image": "x", "environment": {"A": "x\0"}}, "A: a value cannot hold a NUL"),
        ({"image": "x", "command": ["a\0b"]}, "a command cannot hold a NUL"),
        ({"image": "x", "registry_credentials": "secret/x"}, "'secret/x' is no block"),
        ({"image": "x", "privileged": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_refused(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RunContainer.model_validate(payload)
    assert said in str(refused.value)
