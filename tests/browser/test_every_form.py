"""Every task's form in both of Prefect's UIs: only what is required, one more field, everything."""

import json
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Page

from flows.average_files import average_files
from flows.compress_images import compress_images
from flows.convert_images import convert_images
from flows.find_primes import find_primes
from flows.generate_data import generate_data
from flows.run_container import run_container
from tests.browser.forms import Choice, Code, Form
from tests.support.platform import Platform, pause

FLOWS = {
    flow.name: flow
    for flow in (
        *(compress_images, convert_images, find_primes, average_files),
        *(run_container, generate_data),
    )
}
CONTAINER = {
    "Command": ["ls", "-l"],
    "Environment": ["COLOR=red", "SIZE=a=b"],
    "Network": Choice("bridge"),
    "CPUs": 0.5,
    "Memory": "64m",
    "Registry credentials": "docker-registry-credentials/team",
}
CONTAINER_SENT = {
    "command": ["ls", "-l"],
    "environment": {"COLOR": "red", "SIZE": "a=b"},
    "network": "bridge",
    "cpus": 0.5,
    "memory": "64m",
    "registry_credentials": "docker-registry-credentials/team",
}
CLICKS = {"Topic": "clicks", "Duration": 5}
FILES = {"run.sh": "#!/bin/sh\necho hello\n"}
# A task, what is filled in, and the payload that it is to make.
FORMS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("compress-images", {"Source": "a", "Ratio": 0.4}, {"source": "a", "ratio": 0.4}),
    (
        "convert-images",
        {"Source": "a", "Format": Choice("webp")},
        {"source": "a", "format": "webp"},
    ),
    ("find-primes", {"Upper bound": 1000}, {"upper_bound": 1000}),
    ("average-files", {"Source": "a/*.csv"}, {"source": "a/*.csv"}),
    (
        "average-files",
        {"Files": 3, "Numbers": 5},
        {"generate": {"files": 3, "numbers": 5}},
    ),
    (
        "average-files",
        {
            "Source": "a",
            "Also": Choice("csv"),
            "Not finite": Choice("skip"),
            "Workers": 2,
            "Partition": 3,
            "Keep sums": True,
        },
        {
            "source": "a",
            "also": ["csv"],
            "not_finite": "skip",
            "workers": 2,
            "partition": 3,
            "keep_sums": True,
        },
    ),
    ("run-container", {"Image": "a"}, {"image": "a"}),
    (
        "run-container",
        {"Image": "a", "Environment": ["COLOR=red"]},
        {"image": "a", "environment": {"COLOR": "red"}},
    ),
    (
        "run-container",
        {"Dockerfile": "FROM a", "Files": Code(json.dumps(FILES)), "Context": "b"},
        {"build": {"dockerfile": "FROM a", "files": FILES, "context": "b"}},
    ),
    (
        "run-container",
        CONTAINER | {"Image": "a", "Inputs": "b", "Output": "2g", "Max duration": 60},
        CONTAINER_SENT | {"image": "a", "inputs": "b", "output": "2g", "max_duration": 60},
    ),
    ("generate-data", CLICKS | {"Image": "a"}, {"topic": "clicks", "duration": 5, "image": "a"}),
    (
        "generate-data",
        CLICKS | {"Image": "a", "Start": datetime.now(UTC)},
        {"topic": "clicks", "duration": 5, "image": "a"},
    ),
    (
        "generate-data",
        CONTAINER
        | CLICKS
        | {"Image": "a", "Containers": 2, "Start": datetime.now(UTC)}
        | {"Description": "a load", "User": "anna"},
        CONTAINER_SENT
        | {"topic": "clicks", "duration": 5, "image": "a", "containers": 2}
        | {"description": "a load", "user": "anna"},
    ),
]


@pytest.fixture
def deployments(docker_platform: Platform) -> Generator[dict[str, str]]:
    """The id of each task's deployment. No job starts; those that were submitted are deleted."""
    ids = {task: docker_platform.deployment(f"{task}/low") for task in FLOWS}
    with pause(docker_platform):
        yield ids
        wanted = {
            "deployments": {"id": {"any_": [*ids.values()]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        for run in docker_platform.rest("POST", "/flow_runs/filter", wanted).json():
            docker_platform.rest("DELETE", f"/flow_runs/{run['id']}")


@pytest.fixture(params=["V1", "V2"])
def form(request: pytest.FixtureRequest, docker_platform: Platform, tab: Page) -> Form:
    """The form in each of Prefect's interfaces."""
    return Form(tab, docker_platform.ui, request.param)


@pytest.mark.thorough
def test_every_form(form: Form, deployments: dict[str, str]) -> None:
    """In one test, since a browser takes as long to start as three forms to fill."""
    for task, values, expected in FORMS:
        form.open(deployments[task])
        form.fill(values | {"Results directory": "from-a-form"})
        status, run = form.submit()
        assert status == 201, (task, values, run)
        assert UUID(run["id"])
        read = FLOWS[task].validate_parameters(run["parameters"])
        payload: Any = read["payload"]
        if "Start" in values:
            assert payload.starts() <= datetime.now(UTC)
            expected = expected | {"start": payload.start}
        assert payload == payload.model_validate(expected)
        assert read["results_directory"] == "from-a-form"


@pytest.mark.thorough
def test_a_refusal_is_shown_in_words(form: Form, tab: Page, deployments: dict[str, str]) -> None:
    good = CLICKS | {"Image": "a", "Results directory": "refused"}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"Results directory": "../x"}, "or a control character' was expected"),
        ({"Topic": "my topic"}, "such as kafka://host:port/clicks' was expected"),
        ({"Environment": ["red"]}, "a variable and its value, such as COLOR=red"),
        ({"Image": ""}, "'image or build' is a required property"),
        ({"Dockerfile": "FROM b"}, "image or build, not both"),
    ]
    for values, words in refused:
        form.open(deployments["generate-data"])
        form.fill(good | values)
        form.press_submit()
        tab.get_by_text(words).first.wait_for()
        assert "^" not in tab.locator("body").inner_text()
