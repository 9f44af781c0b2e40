"""What a user's container gets wrong, or does wrong on purpose: one line, and no one is harmed."""

from typing import Any
from uuid import UUID

import pytest

from tests.integration.run_container.jobs import (
    IMAGE,
    built_images,
    failed,
    python,
    real,
    shell,
    siblings,
    submit_job,
)
from tests.support.platform import Platform

FORK_BOMB = """
import os, sys, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        count += 1
except OSError as error:
    print(count, error.strerror, file=sys.stderr)
    sys.exit(4)
"""


def build(text: str, **files: str) -> dict[str, Any]:
    return {"build": {"dockerfile": f"FROM {IMAGE}\n{text}", "files": files}}


def cases() -> dict[str, tuple[dict[str, Any], list[str]]]:
    """Payloads, and what the one line must say of each."""
    return {
        "no such image": (
            {"image": "127.0.0.1:9/nothing:1"},
            ["image '127.0.0.1:9/nothing:1' cannot be pulled: ", "check the name"],
        ),
        "no such local image": (
            {"image": "sha256:" + "0" * 64},
            ["is not on this host, and an id cannot be pulled"],
        ),
        "no such block": (
            {
                "image": "127.0.0.1:9/nothing:1",
                "registry_credentials": "docker-registry-credentials/nobody",
            },
            ["there is no block docker-registry-credentials/nobody"],
        ),
        "does not build": (
            build("RUN echo working && echo broken >&2 && exit 9\n"),
            ["the image does not build: Step 2/2 : RUN ", "non-zero code: 9: "],
        ),
        "no Dockerfile": (build("NONSENSE x\n"), ["the image does not build: ", "NONSENSE"]),
        "fetches in the engine": (
            build("ADD http://127.0.0.1:4200/api/health /x\n"),
            ["ADD cannot fetch an address here"],
        ),
        "a network in the build": (
            build(
                "RUN python3 -c 'import socket; "
                'socket.create_connection(("127.0.0.1", 4200), 3)\'\n'
            ),
            ["the image does not build", "Connection refused"],
        ),
        "no such command": (
            {"image": IMAGE, "command": ["nothing-of-that-name"]},
            ["exit code 127: ", "nothing-of-that-name"],
        ),
        "memory below the least": (shell("true", memory="5m"), ["payload.memory: 5m is less than"]),
        "too much output asked for": (
            shell("true", output="99999g"),
            ["payload.output: 99999g is more than the 10.0 GiB that PREFECTURE_CONTAINER_OUTPUT"],
        ),
        "a name that is none": (
            shell("true", environment={"A-B": "1"}),
            ["payload.environment: 'A-B' is no name of a variable"],
        ),
        "no command at all": ({"image": IMAGE}, ["the Docker engine refuses: "]),
        "out of memory": (
            python("x = bytearray(10**9)", memory="32m"),
            ["out of memory: the limit is 32m: raise `memory`", "(exit code 137)"],
        ),
        "over its time": (
            shell("trap '' TERM; while true; do sleep 1; done", max_duration=1),
            ["time limit: it ran longer than its 1 s"],
        ),
        "a fork bomb": (
            python(FORK_BOMB, memory="512m"),
            ["exit code 4: ", "Resource temporarily unavailable"],
        ),
        "one file that is too large": (
            python("open('/output/a', 'wb').write(bytes(9 * 2**20))", output="8m"),
            ["/output is larger than its limit of 8 MiB"],
        ),
        "files that are too much": (
            shell(
                "i=0; while true; do i=$((i+1)); "
                "dd if=/dev/zero of=/output/$i bs=1M count=4 2>/dev/null; done",
                output="16m",
            ),
            ["/output is larger than its limit of 16 MiB"],
        ),
    }


HARMFUL = ("out of memory", "a fork bomb", "files that are too much")


@pytest.fixture(scope="module")
def jobs(docker_platform: Platform) -> dict[str, UUID]:
    """All of them, submitted at once, and others between them that want nothing bad."""
    evading = ("memory below the least", "a name that is none", "too much output asked for")
    found: dict[str, UUID] = {}
    for name, (payload, _) in cases().items():
        parameters = {"payload": real(payload), "results_directory": "bad"}
        response = docker_platform.create(
            "run-container/high",
            parameters=parameters,
            enforce_parameter_schema=name not in evading,
        )
        assert response.status_code == 201, response.text
        found[name] = UUID(response.json()["id"])
        if name in HARMFUL:
            script = "for n in 1 2 3; do sleep 1; echo $n >> /output/n; done"
            found[f"beside {name}"] = submit_job(docker_platform, shell(script), "beside")
    for job in found.values():
        docker_platform.ended(job)  # each in turn: the last waits for all others
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("name", cases())
def test_it_ends_with_one_line(docker_platform: Platform, jobs: dict[str, UUID], name: str) -> None:
    message = failed(docker_platform, jobs[name])
    for part in cases()[name][1]:
        assert part in message
    assert siblings(docker_platform, jobs[name]) == []
    assert built_images(docker_platform, jobs[name]) == []
    assert not list((docker_platform.results / ".staging").glob(f"{jobs[name]}.*"))
    assert not (docker_platform.results / "bad" / str(jobs[name])).exists()


@pytest.mark.thorough
@pytest.mark.parametrize("name", HARMFUL)
def test_jobs_beside_it_are_not_harmed(
    docker_platform: Platform, jobs: dict[str, UUID], name: str
) -> None:
    job = jobs[f"beside {name}"]
    result = docker_platform.completed(job, "beside")
    assert docker_platform.manifest(job, "beside")["attempt"] == 1
    assert (result / "output" / "n").read_text() == "1\n2\n3\n"


@pytest.mark.thorough
def test_links_and_pipes_are_left_out(docker_platform: Platform) -> None:
    script = (
        "ln -s /etc/passwd /output/passwd; ln -s / /output/root; mkfifo /output/pipe; "
        "mkdir /output/dir; echo x > /output/dir/x; chmod 000 /output/dir/x"
    )
    job = submit_job(docker_platform, shell(script))
    result = docker_platform.completed(job, "containers")
    assert [path.name for path in (result / "output").rglob("*")] == ["dir", "x"]
    summary = docker_platform.manifest(job, "containers")["summary"]
    assert summary["left_out_in_all"] == 3
    assert {entry["path"] for entry in summary["left_out"]} == {"passwd", "root", "pipe"}


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"image": "x", "cpus": 0}, "'payload.cpus'"),
        ({"image": "x", "network": "host"}, "'payload.network'"),
        ({"image": "x", "memory": "much"}, "'payload.memory'"),
        ({"image": "x", "max_duration": 0}, "'payload.max_duration'"),
        ({"image": "x", "environment": {"1A": "x"}}, "'payload.environment"),
        ({"image": "x", "registry_credentials": "secret/x"}, "'payload.registry_credentials'"),
        ({"image": "x", "privileged": True}, "'privileged' was unexpected"),
    ],
)
def test_a_schema_says_it_at_submission(
    docker_platform: Platform, payload: dict[str, Any], named: str
) -> None:
    parameters = {"payload": payload, "results_directory": "bad"}
    response = docker_platform.create("run-container/high", parameters=parameters)
    assert response.status_code == 409, response.text
    assert named in response.json()["detail"]


def test_without_an_engine(process_platform: Platform) -> None:
    done = process_platform.command(
        "prefecture", "submit", "run-container", '{"image": "x"}', "bad"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("prefecture: run-container: this task needs a Docker engine: ")
    job = process_platform.submit_job("run-container/high", {"image": "x"}, "bad")
    assert failed(process_platform, job).startswith("this task needs a Docker engine: ")
