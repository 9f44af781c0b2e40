"""Commands that start Prefecture on this host, and put what it consists of in place."""

import asyncio

from deployments.apply import apply as apply_all
from deployments.cli.output.console import out, say
from deployments.connection import connect, server_api
from deployments.local import docker_engine
from deployments.local.up import up as run_up
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import get_settings


def up(
    *,
    pool: Pool | None = None,
    workers: int = 2,
    most: int | None = None,
    port: int = 4200,
    insecure: bool = False,
) -> None:
    """Keep a server, a worker and its supervisor running, until Ctrl-C or SIGTERM.

    Runs in the foreground, also starts the notifier and the worker of the platform's own flows,
    puts the deployments on the server, and prints each job that ends. Ctrl-C or SIGTERM stops
    everything and puts running jobs back in their queue.

    Example: `prefecture up --workers 4 --most 8`

    Parameters
    ----------
    pool
        Run jobs in containers (docker) or as plain processes. Default: docker where an engine
        answers.
    workers
        How many jobs run at once.
    most
        The maximum for `prefecture scale`. Default: that of --workers.
    port
        The port of the UI and the API, on 127.0.0.1 and, where it is set, on PREFECTURE_BIND.
    insecure
        Listen on PREFECTURE_BIND without TLS: behind a proxy, or in a network that you trust.
    """
    if workers < 1:
        raise OperatorError(f"--workers {workers}: at least 1 job must be able to run")
    if most is not None and most < workers:
        raise OperatorError(f"--most {most}: at least as many as --workers, {workers}")
    asyncio.run(run_up(get_settings(), pool, workers, port, say, most, insecure=insecure))


def apply(*, pool: Pool | None = None) -> None:
    """Put pools, queues, blocks, deployments and subscribers on the server at PREFECT_API_URL.

    Idempotent.

    Example: `prefecture apply --pool process`

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
            image = docker_engine.ensure_image(engine, settings, say)
        elif image is None:
            raise OperatorError(
                "no Docker engine answers here: set PREFECTURE_IMAGE to the image that the "
                "workers' engine has"
            )

    async def put() -> int:
        async with connect():
            return await apply_all(chosen, settings, image)

    say(f"{asyncio.run(put())} deployments on pool {chosen} at {server_api()}")


def image() -> None:
    """Build the image of jobs, unless this host's engine has it, and print its tag.

    Example: `prefecture image`
    """
    engine = docker_engine.find_engine()
    if engine is None:
        raise OperatorError("no Docker engine answers: start it, or use the process pool")
    out.print(docker_engine.ensure_image(engine, get_settings(), say))
