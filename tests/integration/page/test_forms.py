"""The form of every task makes the payload that a person means, with no JSON to type."""

from typing import Any

from playwright.sync_api import expect

from tasks.contracts import (
    AverageFiles,
    CompressImages,
    ConvertImages,
    FindPrimes,
    GenerateData,
    RunContainer,
)
from tests.integration.page.forms import fill
from tests.support.platform import Platform, pause
from tests.support.web.chromium import SignIn
from tests.support.web.gateway import Gateway

PAYLOADS = {
    "compress-images": CompressImages,
    "convert-images": ConvertImages,
    "find-primes": FindPrimes,
    "average-files": AverageFiles,
    "run-container": RunContainer,
    "generate-data": GenerateData,
}
FILES = {"run.sh": "#!/bin/sh\necho hello\n"}
# A task, what is filled in by path, and the payload that it is to make.
FORMS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("compress-images", {"source": "a", "ratio": "0.4"}, {"source": "a", "ratio": 0.4}),
    (
        "convert-images",
        {"source": "a", "format": "webp", "max_width": "640", "metadata": "strip"},
        {"source": "a", "format": "webp", "max_width": 640, "metadata": "strip"},
    ),
    ("find-primes", {"upper_bound": "1000"}, {"upper_bound": 1000}),
    (
        "average-files",
        {"source": "a/*.csv", "also": ["csv"], "delimiter": ";", "keep_sums": True, "workers": "2"},
        {"source": "a/*.csv", "also": ["csv"], "delimiter": ";", "keep_sums": True, "workers": 2},
    ),
    (
        "average-files",
        {"or": "Generate", "generate.files": "3", "generate.numbers": "5"},
        {"generate": {"files": 3, "numbers": 5}},
    ),
    (
        "run-container",
        {"image": "a", "command": ["ls", "-l"], "environment": {"COLOR": "red", "SIZE": "a=b"}}
        | {"network": "bridge", "cpus": "0.5", "memory": "64m", "max_duration": "60"},
        {"image": "a", "command": ["ls", "-l"], "environment": {"COLOR": "red", "SIZE": "a=b"}}
        | {"network": "bridge", "cpus": 0.5, "memory": "64m", "max_duration": 60},
    ),
    (
        "run-container",
        {"or": "Build", "build.dockerfile": "FROM a", "build.files": FILES, "build.context": "b"},
        {"build": {"dockerfile": "FROM a", "files": FILES, "context": "b"}},
    ),
    (
        "generate-data",
        {"topic": "clicks", "duration": "5", "image": "a", "start": "2030-01-31T08:00"},
        {"topic": "clicks", "duration": 5, "image": "a", "start": "2030-01-31T08:00:00.000Z"},
    ),
]
# A task, what is filled in, the field that is wrong, and its line.
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("find-primes", {}, "upper_bound", "this is needed"),
    ("find-primes", {"upper_bound": "1"}, "upper_bound", "1 is not 2 to 10,000,000,000"),
    ("find-primes", {"upper_bound": "2.5"}, "upper_bound", "this is no whole number"),
    ("compress-images", {"source": "/a", "ratio": "0.4"}, "source", "expected: a path or glob"),
    ("average-files", {"or": "Generate"}, "generate.files", "this is needed"),
    ("run-container", {"image": "a", "memory": "1x"}, "memory", "expected: a number and k"),
    (
        "find-primes",
        {"upper_bound": "100", "results_directory": "../x"},
        "results_directory",
        "is not a results directory",
    ),
]
# Controls that a screen reader has no name for.
NAMELESS = """() => [...document.querySelectorAll("main :is(input, select, textarea, button)")]
    .filter(each => !each.hidden && each.checkVisibility())
    .filter(each => !each.labels?.length && !each.ariaLabel && !each.textContent.trim())
    .map(each => each.outerHTML)"""


def test_every_form_makes_its_payload(
    sign_in: SignIn, gateway: Gateway, process_platform: Platform
) -> None:
    page = sign_in("fred")
    with pause(process_platform):
        for task, values, expected in FORMS:
            page.goto(f"{gateway.url}/new/{task}")
            expect(page.get_by_role("heading", name=task)).to_be_visible()
            assert page.evaluate(NAMELESS) == []
            fill(page, values)
            with page.expect_request(lambda sent: sent.method == "POST") as request:
                page.get_by_role("button", name="Submit the job").click()
            body: dict[str, Any] = request.value.post_data_json or {}
            assert body["payload"] == expected, (task, values)
            assert (body["task"], body["results_directory"]) == (task, task)
            assert PAYLOADS[task].model_validate(body["payload"])
        with gateway.user("fred") as fred:
            for job in fred.get("/jobs").json()["jobs"]:
                fred.post(f"/jobs/{job['job']}/cancel")


def test_what_is_wrong_stands_beside_its_field(sign_in: SignIn, gateway: Gateway) -> None:
    page = sign_in("gina")
    for task, values, path, words in WRONG:
        page.goto(f"{gateway.url}/new/{task}")
        expect(page.get_by_role("heading", name=task)).to_be_visible()
        fill(page, values)
        page.get_by_role("button", name="Submit the job").click()
        line = page.locator(f"[data-path='{path}'] > .error")
        expect(line).to_contain_text(words)
        assert "\n" not in line.inner_text()
    with gateway.user("gina") as gina:
        assert gina.get("/jobs").json()["jobs"] == []
