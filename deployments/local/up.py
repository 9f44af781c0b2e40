"""`prefecture up`: server, worker, supervisor, notifier and platform worker in the foreground."""

import asyncio
import contextlib
import fcntl
import signal
import socket
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from deployments import login_link
from deployments.apply import apply
from deployments.connection import known_in_home, settings_for
from deployments.local import docker_engine, programs
from deployments.local.encryption import key_setting
from deployments.local.outside import check_outside, outside_url, refuse_busy_port
from deployments.local.processes import (
    Child,
    adopt_orphans,
    kill,
    leftovers,
    processes_with,
    reap_orphans,
)
from deployments.local.programs import HOST, log
from deployments.local.unsettled import clean_up_after_kill, put_back, remember
from deployments.notifications.inbox import follow_ends, line
from deployments.password import SERVER_VARIABLE, server_password
from deployments.pools import scale
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import AUTH_VARIABLE, Settings, make_home, make_private_folder

_SERVER_SLOW = 60.0  # seconds of its start after which a message is printed
_SERVER_START = 900.0  # seconds to answer, after which a running server is given up
_POLL = 0.2  # seconds between two health checks
_PUT_BACK = 30.0  # seconds at the end for the server to take running jobs back
_RETRY_DELAY = 1.0  # seconds before a failed request is repeated
_NO_ENGINE = "no Docker engine answers"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """A running Prefecture: its addresses, its pool and worker, and its number of deployments."""

    api_url: str
    ui_url: str
    """Logs a browser in, once."""
    gateway_url: str | None
    """None where there is none."""
    pool: Pool
    worker: str
    deployments: int


@asynccontextmanager
async def running(
    settings: Settings, pool: Pool | None, slots: int, port: int, say: Say, most: int | None = None,
    *, insecure: bool = False,
) -> AsyncGenerator[Running]:  # fmt: skip
    """Start all programs, and end them with the block; running jobs go back in their queue.

    `slots`: how many jobs run at once, until `scale` changes it. `most`: the maximum for `scale`.
    `insecure`: see check_outside. Raises OperatorError as that does, and where the home or the port
    is in use, or a program cannot be started.
    """
    check_outside(settings, insecure=insecure)
    adopt_orphans()
    with lock(settings.home):
        make_private_folder(programs.prefect_home(settings))
        engine = await asyncio.to_thread(docker_engine.find_engine)
        pool = _choose(pool, engine is not None, say)
        image = None
        if pool is Pool.DOCKER and engine is not None:
            image = await asyncio.to_thread(docker_engine.ensure_image, engine, settings, say)
        unsettled = await clean_up_after_kill(settings, engine)
        gateway_port = programs.gateway_port(settings, port)
        refuse_busy_port(settings, port)
        if gateway_port:
            refuse_busy_port(settings, gateway_port)
        api_url = f"http://{HOST}:{port}/api"
        worker = f"prefecture-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        server_env = programs.server_env(settings, worker)
        server_env |= key_setting(settings, server_env)
        password = server_password(settings, server_env)
        server_env[SERVER_VARIABLE] = password
        of_clients = programs.without_csrf_tokens(server_env) | {AUTH_VARIABLE: password}
        server = Child(
            "server",
            programs.server(port, settings),
            server_env,
            log(settings, "server"),
            say,
        )

        def child(
            name: str, argv: list[str], env: dict[str, str], *, heartbeat: bool = False
        ) -> Child:
            own_log = log(settings, name.partition(" ")[0])
            return Child(name, argv, env | of_clients, own_log, say, heartbeat=heartbeat)

        where = settings, worker, api_url
        runner = child(
            "worker",
            programs.worker(pool, worker, most or slots, settings),
            programs.worker_env(*where),
        )
        supervisor = child(
            "supervisor",
            programs.supervisor(pool, worker),
            programs.supervisor_env(*where),
            heartbeat=True,
        )
        notifier = child("notifier", programs.notifier(), programs.notifier_env(*where))
        platform = child(
            "platform worker", programs.platform(), programs.platform_env(*where, slots)
        )
        gateway = child(
            "gateway", programs.gateway(gateway_port, settings), programs.gateway_env(*where)
        )
        remember(settings, [*unsettled, worker])
        # Undone in reverse order; each step also where another fails.
        async with AsyncExitStack() as undo:
            if engine is not None:
                undo.callback(engine.close)
            undo.push_async_callback(_kill_leftovers)
            undo.callback(asyncio.create_task(reap_orphans()).cancel)
            undo.push_async_callback(server.stop)
            await server.start()
            await until_healthy(server, "Prefect server", f"{api_url}/health", say)
            if gateway_port:  # it starts while the rest is done
                undo.push_async_callback(gateway.stop)
                await gateway.start()
            undo.enter_context(known_in_home(settings.home, api_url))
            own = {PREFECT_API_AUTH_STRING: password}
            undo.enter_context(temporary_settings(settings_for(api_url) | own))
            count = await apply(pool, settings, image, say)
            async with get_client() as client:
                await scale(client, pool, slots if most else None)
            if all([await put_back(settings, last, say) for last in unsettled]):
                remember(settings, [worker])
            undo.push_async_callback(notifier.stop)
            await notifier.start()
            if settings.analytics:
                # A flow run is killed at once: the next run does its work.
                undo.push_async_callback(platform.stop, at_once=True)
                await platform.start()
            undo.push_async_callback(put_back, settings, worker, say, _PUT_BACK)
            if engine is not None:
                undo.push_async_callback(
                    asyncio.to_thread, docker_engine.remove_containers, engine, worker
                )
            undo.push_async_callback(_end_worker, runner, worker)
            await runner.start()
            # Ended first: it would take the jobs that we end for crashed.
            undo.push_async_callback(supervisor.stop)
            await supervisor.start()
            link = login_link.make(f"http://{HOST}:{port}", password)
            door = None
            if gateway_port:
                door = f"http://{HOST}:{gateway_port}"
                await until_healthy(gateway, "gateway", f"{door}/health", say)
            yield Running(api_url, link, door, pool, worker, count)


async def up(
    settings: Settings, pool: Pool | None, slots: int, port: int, say: Say, most: int | None,
    *, insecure: bool = False,
) -> None:  # fmt: skip
    """Run Prefecture until Ctrl-C, SIGTERM or SIGHUP. `insecure`: see check_outside."""
    await until_stopped(_run(settings, pool, slots, port, say, most, insecure), say)


async def print_ended_jobs(say: Say, jobs: Collection[UUID] = ()) -> None:
    """Print a line for each job that ends; if `jobs` are given, until all of them have ended."""
    left = set(jobs)
    while True:
        try:
            async with get_client() as client, aclosing(follow_ends(client, 0)) as ends:
                async for end in ends:
                    say(line(end))
                    left.discard(end.job)
                    if jobs and not left:
                        return
        except httpx.HTTPError:
            await asyncio.sleep(_RETRY_DELAY)


async def until_stopped(work: Coroutine[Any, Any, None], say: Say) -> bool:
    """Run `work`, or cancel it at a signal and let it clean up. Returns whether it was finished."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    working = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    done = working.done()
    if not done:
        say("stopping; running jobs go back in their queue")
        working.cancel()
    stopped.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return done


async def _end_worker(runner: Child, worker: str) -> None:
    # At once: otherwise the worker would report the jobs that we end as crashed.
    await runner.stop(at_once=True)
    # Its jobs, if the worker was gone already: as plain processes they outlive it.
    await kill(processes_with(programs.OWNER, worker))


async def _kill_leftovers() -> None:
    await kill(leftovers())


async def _run(
    settings: Settings, pool: Pool | None, slots: int, port: int, say: Say, most: int | None,
    insecure: bool,
) -> None:  # fmt: skip
    async with running(settings, pool, slots, port, say, most, insecure=insecure) as here:
        say(f"UI       {here.ui_url}")
        say(f"API      {here.api_url}")
        if here.gateway_url:
            say(
                f"gateway  {here.gateway_url}/v1 for programs, {here.gateway_url} in a browser, "
                "with a token of `prefecture token add`"
            )
        if settings.bind:
            say(f"outside  {outside_url(settings, port)}")
        say(f"pool     {here.pool}, {slots} jobs at once, {here.deployments} deployments")
        say(f"inputs   {settings.inputs}")
        say(f"results  {settings.results}")
        say("ready; Ctrl-C stops everything")
        # Ends only by cancellation, and once: the cleanup must not be interrupted.
        await print_ended_jobs(say)


def _choose(asked: Pool | None, engine: bool, say: Say) -> Pool:
    if asked is Pool.ECS:
        raise OperatorError(
            "jobs of `prefecture up` run on this machine: for those in ECS use `prefecture apply`, "
            "`work` and `supervise` with --pool ecs, for a server that ECS reaches"
        )
    if asked is Pool.DOCKER and not engine:
        raise OperatorError(f"{_NO_ENGINE}: start it, or use --pool process, which needs none")
    if asked is Pool.PROCESS or not engine:
        say("jobs run as plain processes" if engine else f"{_NO_ENGINE}: jobs run as processes")
        return Pool.PROCESS
    say("a Docker engine answers: jobs run in containers")
    return Pool.DOCKER


@contextmanager
def lock(home: Path) -> Generator[None]:
    """Hold the lock of a home during the block. Raises OperatorError if another `up` holds it."""
    make_home(home)
    with (home / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f"prefecture is up already with the home {home}: stop that one, or set "
                "PREFECTURE_HOME to another folder"
            ) from None
        yield


async def until_healthy(server: Child, name: str, url: str, say: Say) -> None:
    """Wait until a server answers its health check at `url`.

    Raises OperatorError where the server ends, or does not answer for a quarter of an hour.
    """
    clock = asyncio.get_running_loop().time
    began, reported = clock(), False
    async with httpx.AsyncClient(trust_env=False) as client:
        while server.running:
            with contextlib.suppress(httpx.TransportError):  # not listening yet
                if (await client.get(url)).is_success:
                    return
            waited = clock() - began
            if waited > _SERVER_START:
                raise OperatorError(
                    f"the {name} has not answered for {_SERVER_START / 60:.0f} minutes: "
                    f"see {server.log}, and restart"
                )
            if waited > _SERVER_SLOW and not reported:
                reported = True
                say(f"the {name} is slow to start; waiting for it (see {server.log})")
            await asyncio.sleep(_POLL)
    raise OperatorError(f"the {name} does not start:\n{server.log_tail()}")
