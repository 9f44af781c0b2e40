"""Hundreds of jobs submitted at once, and a server that dies meanwhile."""

import re
import signal
import socket
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments import Job, submit_many
from tasks.errors import InvalidPayload, KeyTaken, ServerUnavailable
from tasks.settings import client_environment
from tests.support.platform import BIN, PATIENCE, Platform, is_ready, pause, wait_until
from tests.support.processes import frozen, server

PAYLOADS = [{"upper_bound": bound} for bound in range(2, 202)]
MANY = [{"upper_bound": bound} for bound in range(2, 1202)]
"""Twelve requests: time to kill the server in the middle."""


@pytest.fixture
def name(here: Platform) -> Generator[str]:
    """What the jobs of a test are called. None of them runs, and none is left."""
    name = f"bulk-{uuid4().hex[:8]}"
    with pause(here):
        yield name
        while deleted(here, name):
            pass


def deleted(platform: Platform, name: str) -> list[str]:
    body = {"flow_runs": {"name": {"any_": [name]}}}
    response = platform.rest("POST", "/flow_runs/bulk_delete", body)
    response.raise_for_status()
    return response.json()["deleted"]


def count(platform: Platform, name: str) -> int:
    body = {"flow_runs": {"name": {"any_": [name]}}}
    return platform.rest("POST", "/flow_runs/count", body).json()


def served(platform: Platform, name: str) -> list[dict[str, Any]]:
    """The jobs in the order in which the queue gives them out."""
    runs: list[dict[str, Any]] = []
    body = {"flow_runs": {"name": {"any_": [name]}}, "sort": "NEXT_SCHEDULED_START_TIME_ASC"}
    while found := platform.rest(
        "POST", "/flow_runs/filter", body | {"offset": len(runs), "limit": 200}
    ).json():
        runs += found
    return runs


def submit_job(name: str, key: str | None = None, payloads: Any = PAYLOADS) -> list[Job]:
    return submit_many("find-primes", payloads, "bulk", queue="low", name=name, key=key)


def test_the_server_dies_in_the_middle(here: Platform, name: str) -> None:
    def until_it_breaks_off() -> str:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
            with pytest.raises(ServerUnavailable) as broken:
                submit_job(name, "holiday", MANY)
            return str(broken.value)

    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(until_it_breaks_off)
        wait_until(lambda: count(here, name) >= 25 or said.done(), what="some are")
        # No other server may start before the submission has failed.
        with frozen(psutil.Process(here.process.pid)):
            for process in server(here):
                process.kill()
            line = said.result(PATIENCE)
    done, _, rest = line.partition(" of 1200 jobs were submitted before ")
    assert 0 <= int(done) < 1200
    assert "call again with key 'holiday' and the rest is submitted, none of them twice" in rest

    wait_until(lambda: is_ready(here.api), what="up has started the server again")
    jobs = submit_job(name, "holiday", MANY)
    runs = served(here, name)
    assert [run["id"] for run in runs] == [str(job.id) for job in jobs]
    assert [run["parameters"]["payload"] for run in runs] == MANY
    assert {run["work_queue_name"] for run in runs} == {"low"}
    assert submit_job(name, "holiday", MANY) == jobs
    assert count(here, name) == 1200


def test_what_is_missing_goes_where_it_belongs(here: Platform, name: str) -> None:
    payloads = PAYLOADS[:30]
    jobs = submit_job(name, "gaps", payloads)
    for lost in (jobs[0], jobs[7], jobs[8], jobs[29]):
        here.rest("DELETE", f"/flow_runs/{lost.id}").raise_for_status()
    again = submit_job(name, "gaps", payloads)
    assert [a == b for a, b in zip(jobs, again, strict=True)].count(False) == 4
    assert [run["parameters"]["payload"] for run in served(here, name)] == payloads


def test_all_are_checked_before_the_first(here: Platform, name: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^payload 200 of 200: .*'payload.upper_bound'"):
        submit_job(name, None, [*PAYLOADS[:199], {"upper_bound": 1}])
    assert count(here, name) == 0


def test_the_same_key_with_other_payloads(here: Platform, name: str) -> None:
    jobs = submit_job(name, "three", PAYLOADS[:3])
    changed = rf"^key 'three, payload 3' names job {jobs[2].id} already, whose payload.upper_bound"
    with pytest.raises(KeyTaken, match=changed):
        submit_job(name, "three", [*PAYLOADS[:2], PAYLOADS[9]])
    with pytest.raises(KeyTaken, match="key 'three' names more than these 2 jobs"):
        submit_job(name, "three", PAYLOADS[:2])
    assert submit_job(name, "three", PAYLOADS[:4])[:3] == jobs
    assert submit_job(name, "none", []) == []


@pytest.mark.thorough
def test_on_the_command_line(here: Platform, name: str, tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    file.write_text('{"upper_bound": 10}\n\n{"upper_bound": 20}\n')
    words = ("prefecture", "submit-many", "find-primes", str(file), "bulk", "--name", name)
    words = (*words, "--key", name)
    first, again = here.command(*words), here.command(*words)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.split() == [run["id"] for run in served(here, name)]
    assert again.stdout == first.stdout


@pytest.mark.thorough
def test_interrupted_it_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    file.write_text('{"upper_bound": 10}\n')
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with subprocess.Popen(
            [str(BIN / "prefecture"), "submit-many", "find-primes", str(file), "bulk"],
            env=client_environment(PREFECT_API_URL=address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                said = process.communicate(timeout=240)
    assert (process.returncode, said[0]) == (130, "")
    assert re.search(r" the same command with --key [0-9a-f-]{36} submits the rest", said[1])
