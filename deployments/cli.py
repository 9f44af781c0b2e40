"""The `prefecture` command: thin, one function a command."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import App, Parameter
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError
from rich.console import Console

from deployments import tables
from deployments.apply import apply as apply_all
from deployments.demo.run import demo as run_demo
from deployments.embedded import docker_engine
from deployments.embedded.up import until_stopped
from deployments.embedded.up import up as run_up
from deployments.results import find_result, read_result
from deployments.status import read_status
from deployments.submit import submit as submit_job
from tasks.contracts import Pool, Queue
from tasks.errors import OperatorError, PrefectureError
from tasks.settings import api_url, get_settings

_DEFAULT_API = "http://127.0.0.1:4200/api"  # where `prefecture up` listens

app = App(name="prefecture", help="Compute infrastructure on Prefect.", version_flags=[])
_WIDE = 160  # columns where the output is no terminal: a pipe or a log needs no folding
_out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)
_err = Console(stderr=True, highlight=False, markup=False)


@app.command
def up(*, pool: Pool | None = None, workers: int = 2, port: int = 4200) -> None:
    """Keep a server and a worker running, until Ctrl-C or SIGTERM.

    Parameters
    ----------
    pool
        Run jobs in containers (docker) or as plain processes. Default: docker where an engine
        answers.
    workers
        How many jobs run at once.
    port
        Where the UI and the API listen, on 127.0.0.1.
    """
    if workers < 1:
        raise OperatorError(f"--workers {workers}: at least 1 job must be able to run")
    asyncio.run(run_up(get_settings(), pool, workers, port, _say))


@app.command
def apply(*, pool: Pool | None = None) -> None:
    """Put pools, queues, blocks and deployments on the server that PREFECT_API_URL names.

    Parameters
    ----------
    pool
        The pool that deployments run on. Default: docker where an engine answers.
    """
    settings = get_settings()
    engine = docker_engine.find_engine()
    chosen = pool or (Pool.DOCKER if engine else Pool.PROCESS)
    image = settings.image
    if chosen is Pool.DOCKER:
        if engine is not None:
            image = docker_engine.ensure_image(engine, settings, _say)
        elif image is None:
            raise OperatorError(
                "no Docker engine answers here: set PREFECTURE_IMAGE to the image that the "
                "workers' engine has"
            )

    async def put() -> int:
        async with _client():
            return await apply_all(chosen, settings, _api(), image)

    _say(f"{asyncio.run(put())} deployments on pool {chosen} at {_api()}")


@app.command
def status() -> None:
    """Show queues, workers and the last jobs."""

    async def show() -> None:
        async with _client() as client:
            for part in tables.status_tables(await read_status(client)):
                _out.print(part)

    asyncio.run(show())


@app.command
def submit(
    task: str,
    payload: str,
    results_directory: str,
    *,
    queue: str = Queue.NORMAL,
    tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
) -> None:
    """Hand in a job and print its id.

    Parameters
    ----------
    task
        A compute task, e.g. compress-images.
    payload
        What it works on, as JSON: '{"source": "photos/*.jpg", "ratio": 0.4}'.
    results_directory
        The name that results are published under.
    queue
        high, normal or low.
    tag
        A tag for the job, e.g. user:anna; may be repeated.
    """
    try:
        parsed: Any = json.loads(payload)
    except json.JSONDecodeError as error:
        raise PrefectureError(f"the payload is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise PrefectureError('the payload is not a JSON object such as {"upper_bound": 100}')

    async def hand_in() -> str:
        async with _client() as client:
            return str(
                await submit_job(client, task, parsed, results_directory, queue=queue, tags=tag)  # pyright: ignore[reportUnknownArgumentType]  # JSON
            )

    _out.print(asyncio.run(hand_in()))


@app.command
def results(job: str, *, to: Path | None = None) -> None:
    """List a job's results, or copy them, after checking every file.

    Parameters
    ----------
    job
        The id of the job.
    to
        A new folder to copy them to.
    """

    async def show() -> None:
        async with _client() as client:
            folder = await find_result(client, get_settings(), job)
        manifest = await read_result(folder, to)
        _out.print(tables.results_table(to or folder, manifest))

    asyncio.run(show())


@app.command
def image() -> None:
    """Build the image of jobs, where this host's engine does not have it, and print its tag."""
    engine = docker_engine.find_engine()
    if engine is None:
        raise OperatorError("no Docker engine answers: start it, or use the process pool")
    _out.print(docker_engine.ensure_image(engine, get_settings(), _say))


@app.command
def demo(*, pool: Pool | None = None, inputs: Path | None = None) -> None:
    """Run real jobs of every compute task on all three queues, watch them, and stop everything.

    Parameters
    ----------
    pool
        Default: docker where an engine answers.
    inputs
        A folder of your own photographs.
    """

    async def run() -> bool:
        return await until_stopped(run_demo(pool, inputs, _out), _say)

    if not asyncio.run(run()):
        raise OperatorError("the demo was stopped")


def main() -> None:
    """The entry point: an error of ours is one line on stderr and exit code 1."""
    try:
        app()
    except PrefectureError as error:
        _fail(str(error))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        _fail(f"setting PREFECTURE_{str(first['loc'][0]).upper()}: {first['msg']}")
    except httpx.ConnectError:
        _fail(
            f"no Prefect server answers at {_api()}: start one with `prefecture up`, or set "
            "PREFECT_API_URL"
        )
    except httpx.HTTPError as error:
        _fail(f"the Prefect server at {_api()} did not do what was asked: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _fail(message: str) -> None:
    _err.print(f"prefecture: {message}", markup=False, soft_wrap=True)
    sys.exit(1)


def _say(message: str) -> None:
    _out.print(message, markup=False, soft_wrap=True)


def _api() -> str:
    return api_url() or _DEFAULT_API


@asynccontextmanager
async def _client() -> AsyncGenerator[PrefectClient]:
    """A client for the server that PREFECT_API_URL names; never Prefect's temporary one."""
    with temporary_settings({PREFECT_API_URL: _api()}):
        async with get_client() as client:
            yield client
