"""The workers whose jobs are not settled: remembered, so that the end by a kill loses nothing."""

import asyncio
import json
from collections.abc import Callable

import docker
import httpx
from prefect import get_client

from deployments.local import docker_engine, interrupted
from deployments.local.processes import kill, processes_with
from deployments.local.programs import MARK, marks
from tasks.settings import Settings
from tasks.storage.results.opening import open_results

_MEMORY = "workers.json"  # in the home


def remember(settings: Settings, workers: list[str]) -> None:
    """Note whose jobs the next `up` has to settle, should this one be killed."""
    new = settings.home / f"{_MEMORY}.new"
    new.write_text(json.dumps(workers))
    new.replace(settings.home / _MEMORY)


async def end_what_a_kill_left(settings: Settings, engine: docker.DockerClient | None) -> list[str]:
    """Where the last `up` with this home was killed, end what it could not.

    Returns the names of the workers whose jobs are to be put back. The home is locked, so that
    nothing found is in use.
    """
    memory = settings.home / _MEMORY
    workers: list[str] = json.loads(memory.read_text()) if memory.exists() else []
    for worker in workers:
        for mark in reversed(marks(worker)):  # the supervisor first, as at any end
            await kill(processes_with(MARK, mark))
        if engine is not None:
            await asyncio.to_thread(docker_engine.remove_containers, engine, worker)
    return workers


async def put_back(settings: Settings, worker: str, say: Callable[[str], None]) -> bool:
    """Put a worker's jobs back in their queue. Returns whether that is settled."""
    try:
        async with get_client() as client:
            count = await interrupted.put_back(client, worker, open_results(settings))
    except httpx.HTTPError as error:
        say(f"jobs that were running go back in their queue at the next start: {error}")
        return False
    if count:
        say(f"{count} jobs that were running are back in their queue")
    return True
