"""Records the workers whose jobs must be put back in their queue, should `up` be killed."""

import asyncio
import json
from collections.abc import Callable

import docker
import httpx
from prefect import get_client

from deployments.local import docker_engine, interrupted
from deployments.local.processes import kill, processes_with
from deployments.local.programs import OWNER, owners
from tasks.errors import in_short
from tasks.settings import Settings
from tasks.storage.results.opening import open_results

_FILE = "workers.json"  # in the home


def remember(settings: Settings, workers: list[str]) -> None:
    """Record the workers whose jobs the next `up` must put back, should this one be killed."""
    new = settings.home / f"{_FILE}.new"
    new.write_text(json.dumps(workers))
    new.replace(settings.home / _FILE)


async def clean_up_after_kill(settings: Settings, engine: docker.DockerClient | None) -> list[str]:
    """End the processes and containers that a killed `up` with this home has left behind.

    Returns the names of the workers whose jobs are to be put back. The caller holds the lock of the
    home, so that none of them is in use.
    """
    file = settings.home / _FILE
    workers: list[str] = json.loads(file.read_text()) if file.exists() else []
    for worker in workers:
        for owner in reversed(owners(worker)):  # the supervisor first, as always
            await kill(processes_with(OWNER, owner))
        if engine is not None:
            await asyncio.to_thread(docker_engine.remove_containers, engine, worker)
    return workers


async def put_back(
    settings: Settings, worker: str, say: Callable[[str], None], within: float | None = None
) -> bool:
    """Put a worker's jobs back in their queue. Returns whether the server has taken that.

    `within`: seconds; None for as long as it takes.
    """
    try:
        async with asyncio.timeout(within), get_client() as client:
            count = await interrupted.put_back(client, worker, open_results(settings))
    except (httpx.HTTPError, TimeoutError) as error:
        say(f"running jobs go back in their queue at the next start: {in_short(error)}")
        return False
    if count:
        say(f"{count} running jobs are back in their queue")
    return True
