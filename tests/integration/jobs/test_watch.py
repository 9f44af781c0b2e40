"""`prefecture watch`: what it says and how it ends."""

import io
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from deployments import Job, Progress, submit
from deployments.cli.output.watching import last_line, watch_to_end
from deployments.client.opening import open_jobs
from tests.support.platform import BIN, Platform, pause
from tests.support.processes import server

SMALL = {"upper_bound": 100}


@contextmanager
def watching(platform: Platform, job: UUID) -> Generator[subprocess.Popen[str]]:
    """`prefecture watch` in a pipe."""
    with subprocess.Popen(
        [str(BIN / "prefecture"), "watch", str(job)],
        env=platform.environment | {"PREFECT_API_URL": platform.api},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def watching_one_that_waits(platform: Platform) -> Generator[tuple[Job, subprocess.Popen[str]]]:
    """A job that waits, since the pool is paused, and `prefecture watch` of it."""
    with pause(platform):
        job = submit("find-primes", SMALL, "watch", queue="high")
        with watching(platform, job.id) as process:
            yield job, process


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The next line that holds `text`."""
    assert process.stdout is not None
    line = next((line for line in process.stdout if text in line), None)
    assert line is not None, f"it ended and did not say {text!r}"
    return line.rstrip("\n")


def test_to_a_result(here: Platform) -> None:
    with pause(here):
        job = submit("find-primes", SMALL, "watch", queue="high").id
        with watching(here, job) as process:
            assert line_with(process, "waiting") == "waiting, next"
            here.rest("PATCH", "/work_pools/process", {"is_paused": False})
            end = line_with(process, str(job))
            assert process.wait(240) == 0
    assert end == f"job {job} Completed: {here.results}/watch/{job}"


@pytest.mark.thorough
def test_submit_and_watch_a_failure(here: Platform) -> None:
    payload = '{"source": "nothing-here", "ratio": 0.5}'
    done = here.command(
        *("prefecture", "submit", "compress-images", payload, "watch", "--queue", "high"), "--watch"
    )
    job, *_, end = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert end.startswith(f"job {job} Failed: ")
    assert "nothing-here" in end


@pytest.mark.thorough
def test_across_a_crash_to_the_cancelled_end(here: Platform) -> None:
    with watching_one_that_waits(here) as (job, process):
        line_with(process, "waiting, next")
        crash = {"state": {"type": "CRASHED", "message": "by hand"}, "force": True}
        here.rest("POST", f"/flow_runs/{job.id}/set_state", crash).raise_for_status()
        assert line_with(process, "attempt 2") == "waiting, attempt 2, next"
        job.cancel()
        assert line_with(process, str(job.id)).startswith(f"job {job.id} Cancelled at attempt 2: ")
        assert process.wait(240) == 2


def test_ctrl_c_ends_the_watching_and_not_the_job(here: Platform) -> None:
    with watching_one_that_waits(here) as (job, process):
        line_with(process, "waiting")
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 130
        assert process.stderr is not None
        assert process.stderr.read() == (
            f"job {job.id} goes on: `prefecture watch {job.id}` follows it again\n"
        )
        assert job.status == "Scheduled"
        job.cancel()


@pytest.mark.thorough
def test_while_the_server_is_away(here: Platform) -> None:
    with watching_one_that_waits(here) as (job, process):
        line_with(process, "waiting")
        for one in server(here):
            one.kill()
        line_with(process, "server away")
        line_with(process, "waiting")
        process.send_signal(signal.SIGINT)
        job.cancel()


@pytest.mark.thorough
async def test_brackets_on_a_terminal_are_brackets(here: Platform) -> None:
    with pause(here):
        job = submit("find-primes", SMALL, "watch", queue="low")
        ended = {"state": {"type": "FAILED", "message": "no [/x] in [red]"}, "force": True}
        here.rest("POST", f"/flow_runs/{job.id}/set_state", ended).raise_for_status()
    terminal = Console(
        file=io.StringIO(), force_terminal=True, width=160, markup=False, highlight=False
    )
    async with open_jobs() as jobs:
        assert await watch_to_end(jobs, job.id, terminal) == 1
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue().count("no [/x] in [red]") >= 2  # beside the bar, and at the end


async def test_a_job_that_completed_and_has_no_result_here(here: Platform) -> None:
    job = uuid4()
    last = Progress(job, 1.0, "", "Completed", 1, outcome="completed")
    async with open_jobs() as jobs:
        line = await last_line(jobs, last)
    assert line == f"job {job} Completed: `prefecture results {job}` where the results root is"


@pytest.mark.thorough
def test_what_is_no_job(here: Platform) -> None:
    unknown = uuid4()
    done = here.command("prefecture", "watch", str(unknown))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"no job {unknown} is known here" in done.stderr
