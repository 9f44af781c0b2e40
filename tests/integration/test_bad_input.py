"""Bad input: one clear line, as early as it can be known, and nothing is published."""

import os
from typing import Any

import pytest

from tasks.storage.results import local_files
from tests.support.platform import Platform
from tests.support.session.tiers import thorough

COMPRESS = "compress-images/normal"
GOOD = {"source": "album", "ratio": 0.5}


def parameters(payload: Any, directory: str = "bad") -> dict[str, Any]:
    return {"payload": payload, "results_directory": directory}


@pytest.mark.parametrize(
    ("deployment", "body", "named"),
    [
        (COMPRESS, parameters(GOOD | {"ratio": 0}), "'payload.ratio'"),
        (COMPRESS, parameters(GOOD | {"ratio": 1.5}), "'payload.ratio'"),
        (COMPRESS, parameters(GOOD | {"ratio": "much"}), "'payload.ratio'"),
        (COMPRESS, parameters({"source": "album"}), "'ratio' is a required property"),
        (COMPRESS, parameters(GOOD | {"quality": 3}), "'quality' was unexpected"),
        (COMPRESS, parameters(GOOD | {"source": "/etc/passwd"}), "'payload.source'"),
        (COMPRESS, {"payload": GOOD}, "'results_directory' is a required property"),
        (COMPRESS, parameters(GOOD) | {"nope": 1}, "'nope' was unexpected"),
        ("convert-images/low", parameters({"source": "a", "format": "bmp"}), "'payload.format'"),
        ("find-primes/high", parameters({"upper_bound": 1}), "'payload.upper_bound'"),
        ("find-primes/high", parameters({"upper_bound": 10**10 + 1}), "'payload.upper_bound'"),
        ("find-primes/high", parameters({"upper_bound": 2.5}), "'payload.upper_bound'"),
        *(
            ("find-primes/high", parameters({"upper_bound": 10}, name), "'results_directory'")
            for name in ("..", "a/../b", "/a", "./a", "a\nb", "a\n", "\x7f", "x" * 129, "", ".a")
        ),
    ],
)
def test_a_schema_says_it_at_submission(
    process_platform: Platform, deployment: str, body: dict[str, Any], named: str
) -> None:
    response = process_platform.create(deployment, parameters=body)
    assert response.status_code == 409, response.text
    message = response.json()["detail"]
    assert named in message
    assert "\n" not in message


def test_the_command_line_says_it_too(process_platform: Platform) -> None:
    done = process_platform.command(
        *("prefect", "deployment", "run", COMPRESS),
        *("--param", 'payload={"source": "album", "ratio": 1.5}'),
        *("--param", "results_directory=bad"),
    )
    assert done.returncode == 1
    assert "1.5 is greater than the maximum of 1" in " ".join((done.stdout + done.stderr).split())
    done = process_platform.command(
        "prefecture", "submit", "compress-images", '{"source": "album", "ratio": 1.5}', "bad"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "prefecture: Validation failed for field 'payload.ratio'. Failure reason: "
        "1.5 is greater than the maximum of 1\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["find-primes", "{", "bad"], "the payload is not JSON"),
        thorough(["find-primes", "[1]", "bad"], "the payload is not a JSON object"),
        (["find-prime", "{}", "bad"], "there is no compute task 'find-prime'"),
        thorough(
            ["find-primes", '{"upper_bound": 9}', "../x"], "results_directory: '../x' is not a"
        ),
        (
            ["find-primes", '{"upper_bound": {"__prefect_kind": "jinja", "template": "9"}}', "bad"],
            "payload.upper_bound: the key __prefect_kind is not allowed",
        ),
    ],
)
def test_our_own_command_refuses(
    process_platform: Platform, words: list[str], message: str
) -> None:
    done = process_platform.command("prefecture", "submit", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"prefecture: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "source 'nothing' names no file under the inputs root"),
        ("texts", "the source holds no readable image: note.jpg: "),
        ("linked", "out.jpg is a symbolic link out of the inputs root"),
        thorough("tree", "out is a symbolic link "),
        ("s3://bucket/photos/", "s3:// addresses need credentials"),
    ],
)
def test_what_only_the_job_can_know(platform: Platform, source: str, message: str) -> None:
    """One of each kind: tests/flows/test_bad_sources.py has more."""
    assert_failed(platform, COMPRESS, parameters({"source": source, "ratio": 0.5}), message)


@pytest.mark.parametrize(
    ("deployment", "body", "message"),
    [
        (COMPRESS, parameters(GOOD) | {"nope": 1}, "parameters do not fit this task: "),
        thorough(COMPRESS, {"payload": GOOD}, "parameters do not fit this task: "),
        thorough(
            COMPRESS, parameters(GOOD | {"ratio": 2}), "payload.ratio: Input should be less than"
        ),
        ("find-primes/low", parameters({"upper_bound": 10}, "../x"), "results_directory: '../x'"),
    ],
)
def test_a_run_that_evaded_the_schema_fails_and_does_not_crash(
    platform: Platform, deployment: str, body: dict[str, Any], message: str
) -> None:
    assert_failed(platform, deployment, body, message, enforce_parameter_schema=False)


def assert_failed(
    platform: Platform, deployment: str, body: dict[str, Any], message: str, **more: Any
) -> None:
    """Failed, once, with one line; nothing published, staged or touched."""
    before = tree(platform)
    response = platform.create(deployment, parameters=body, **more)
    assert response.status_code == 201, response.text
    run = platform.ended(response.json()["id"])
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Failed"), run["state"]["message"]
    assert message in run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    assert run["run_count"] <= 1
    assert tree(platform) == before


def tree(platform: Platform) -> list[str]:
    """Everything under the results root but Prefect's own records of return values, and the file
    that a supervisor writes there for a moment to check the disk."""
    found = [
        os.path.join(folder, name)  # noqa: PTH118
        for folder, _, names in os.walk(platform.results)
        for name in names
    ]
    passing = ("/.prefect/", f"/{local_files.STAGING}/check.")
    return sorted(path for path in found if not any(part in path for part in passing))
