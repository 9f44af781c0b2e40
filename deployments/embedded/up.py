"""Everything one machine needs, in the foreground: server, worker, deployments."""

import asyncio
import contextlib
import fcntl
import json
import signal
import socket
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.apply import apply
from deployments.embedded import docker_engine, interrupted
from deployments.embedded.processes import Child, adopt_orphans, kill, leftovers, processes_with
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import Settings, client_environment, server_environment

_HOST = "127.0.0.1"
_SERVER_START = 60.0  # seconds
_POLL = "0.5"  # seconds between two looks into the queues: a freed slot waits no longer than that
_MEMORY = "workers.json"  # in the home: the workers whose jobs are not settled
_MARK = "PREFECTURE_WORKER"  # in the environment of all we start: the name of the worker
_NO_ENGINE = "no Docker engine answers"
_HEARTBEAT = "30"  # seconds; Prefect's least

Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """What `up` has started."""

    api_url: str
    ui_url: str
    pool: Pool
    worker: str
    deployments: int


@asynccontextmanager
async def running(
    settings: Settings, pool: Pool | None, slots: int, port: int, say: Say
) -> AsyncGenerator[Running]:
    """Start everything, and end everything when the block ends; jobs that run go back in the queue.

    `slots` is how many jobs run at once. Raises OperatorError where something stands in the way.
    """
    adopt_orphans()
    with lock(settings.home):
        engine = await asyncio.to_thread(docker_engine.find_engine)
        pool = _choose(pool, engine is not None, say)
        image = None
        if pool is Pool.DOCKER and engine is not None:
            image = await asyncio.to_thread(docker_engine.ensure_image, engine, settings, say)
        unsettled = await _end_what_a_kill_left(settings, engine)
        _refuse_busy_port(port)
        api_url = f"http://{_HOST}:{port}/api"
        worker = f"prefecture-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        server = Child(
            "server", _server(port), _server_env(settings, worker), _log(settings, "server"), say
        )
        runner = Child(
            "worker",
            _worker(pool, worker, slots),
            _worker_env(settings, worker, api_url),
            _log(settings, "worker"),
            say,
        )
        _remember(settings, [*unsettled, worker])
        # Undone in reverse order, each step whatever becomes of the others.
        async with AsyncExitStack() as undo:
            if engine is not None:
                undo.callback(engine.close)
            undo.push_async_callback(_kill_leftovers)
            undo.push_async_callback(server.stop)
            await server.start()
            await _until_healthy(server, api_url)
            undo.enter_context(temporary_settings({PREFECT_API_URL: api_url}))
            count = await apply(pool, settings, api_url, image)
            if all([await _put_back(settings, last, say) for last in unsettled]):
                _remember(settings, [worker])
            undo.push_async_callback(_put_back, settings, worker, say)
            if engine is not None:
                undo.push_async_callback(
                    asyncio.to_thread, docker_engine.remove_containers, engine, worker
                )
            undo.push_async_callback(_end_worker, runner, worker)
            await runner.start()
            yield Running(api_url, f"http://{_HOST}:{port}", pool, worker, count)


async def up(settings: Settings, pool: Pool | None, slots: int, port: int, say: Say) -> None:
    """Run until Ctrl-C, SIGTERM or the end of the terminal."""
    await until_stopped(_run(settings, pool, slots, port, say), say)


async def until_stopped(work: Coroutine[Any, Any, None], say: Say) -> bool:
    """Do the work, or cancel it at a signal and let it tidy up. Returns whether it was done."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    working = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    done = working.done()
    if not done:
        say("stopping; jobs that run go back in their queue")
        working.cancel()
    stopped.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return done


async def _end_worker(runner: Child, worker: str) -> None:
    # Given time, the worker would report the jobs that we end as crashed.
    await runner.stop(at_once=True)
    # Its jobs, where it was gone already; as processes, they do not end with it.
    await kill(processes_with(_MARK, worker))


async def _kill_leftovers() -> None:
    await kill(leftovers())


async def _run(settings: Settings, pool: Pool | None, slots: int, port: int, say: Say) -> None:
    async with running(settings, pool, slots, port, say) as here:
        say(f"UI       {here.ui_url}")
        say(f"API      {here.api_url}")
        say(f"pool     {here.pool}, {slots} jobs at once, {here.deployments} deployments")
        say(f"inputs   {settings.inputs}")
        say(f"results  {settings.results}")
        say("ready; Ctrl-C stops everything")
        # Ended by cancellation alone, and once: the end must not be cut short in its turn.
        await asyncio.get_running_loop().create_future()


def _choose(asked: Pool | None, engine: bool, say: Say) -> Pool:
    if asked is Pool.DOCKER and not engine:
        raise OperatorError(f"{_NO_ENGINE}: start it, or use --pool process, which needs none")
    if asked is Pool.PROCESS or not engine:
        say("jobs run as plain processes" if engine else f"{_NO_ENGINE}: jobs run as processes")
        return Pool.PROCESS
    say("a Docker engine answers: jobs run in containers")
    return Pool.DOCKER


@contextmanager
def lock(home: Path) -> Generator[None]:
    """Hold a home for as long as the block runs. Raises OperatorError where another `up` does."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f"prefecture is up already with the home {home}: stop that one, or set "
                "PREFECTURE_HOME to another folder"
            ) from None
        yield


def _refuse_busy_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise OperatorError(
                f"{_HOST}:{port} is in use, by another Prefect server perhaps: stop that, or "
                "choose another port with --port"
            ) from None


def _log(settings: Settings, name: str) -> Path:
    return settings.home / "logs" / f"{name}.log"


def _prefect(*words: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", *words]


def _server(port: int) -> list[str]:
    return _prefect("server", "start", "--host", _HOST, "--port", str(port))


def _server_env(settings: Settings, worker: str) -> dict[str, str]:
    return server_environment(
        **{_MARK: _of_server(worker)},
        PREFECT_HOME=str(settings.home / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # Else the UI asks port 4200, whichever port it is served on.
        PREFECT_UI_API_URL="/api",
        DO_NOT_TRACK="1",
    )


def _worker(pool: Pool, name: str, slots: int) -> list[str]:
    return _prefect(
        *("worker", "start", "--pool", pool, "--type", pool, "--name", name),
        *("--limit", str(slots), "--install-policy", "never"),
    )


def _worker_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    return client_environment(
        **{_MARK: worker},
        PREFECT_HOME=str(settings.home / "prefect"),
        PREFECT_API_URL=api_url,
        PREFECT_WORKER_QUERY_SECONDS=_POLL,
        # A run that is not due must not hold a slot that a waiting one could use.
        PREFECT_WORKER_PREFETCH_SECONDS="0",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY=_HEARTBEAT,
        DO_NOT_TRACK="1",
    )


async def _until_healthy(server: Child, api_url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        deadline = asyncio.get_running_loop().time() + _SERVER_START
        while asyncio.get_running_loop().time() < deadline:
            if not server.running:
                break
            try:
                if (await client.get(f"{api_url}/health")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.2)  # not listening yet
    raise OperatorError(f"the Prefect server does not start:\n{server.log_tail()}")


def _remember(settings: Settings, workers: list[str]) -> None:
    """Note whose jobs the next `up` has to settle, should this one be killed."""
    new = settings.home / f"{_MEMORY}.new"
    new.write_text(json.dumps(workers))
    new.replace(settings.home / _MEMORY)


async def _end_what_a_kill_left(
    settings: Settings, engine: docker.DockerClient | None
) -> list[str]:
    """Where the last `up` with this home was killed, end what it could not.

    Returns the names of the workers whose jobs are to be put back. The home is locked, so that
    nothing found is in use.
    """
    memory = settings.home / _MEMORY
    workers: list[str] = json.loads(memory.read_text()) if memory.exists() else []
    for worker in workers:
        for mark in (worker, _of_server(worker)):
            await kill(processes_with(_MARK, mark))
        if engine is not None:
            await asyncio.to_thread(docker_engine.remove_containers, engine, worker)
    return workers


def _of_server(worker: str) -> str:
    """The mark of the server that runs beside a worker: not the worker's, whose jobs inherit it."""
    return f"{worker}/server"


async def _put_back(settings: Settings, worker: str, say: Say) -> bool:
    """Put a worker's jobs back in their queue. Returns whether that is settled."""
    try:
        async with get_client() as client:
            count = await interrupted.put_back(client, worker, settings.results)
    except httpx.HTTPError as error:
        say(f"jobs that were running go back in their queue at the next start: {error}")
        return False
    if count:
        say(f"{count} jobs that were running are back in their queue")
    return True
