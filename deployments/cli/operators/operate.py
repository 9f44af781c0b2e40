"""Commands for operators of a Prefecture that runs."""

import asyncio
import socket

from deployments import hosts, login_link, tables
from deployments.cli.output.console import AsJson, Flag, err, out, say, say_aside, say_json
from deployments.cli.output.drains import drain_line, drain_warnings
from deployments.cli.where import span
from deployments.connection import (
    become,
    connect,
    is_on_loopback,
    known_password,
    server_api,
)
from deployments.local import programs
from deployments.pools import read_slots
from deployments.pools import scale as scale_pool
from deployments.status import Status, read_status
from deployments.status import as_json as status_as_json
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import get_settings


def status(*, json: AsJson = False) -> None:
    """Show queues, workers, agents, the last jobs and the next scheduled ones.

    Example: `prefecture status`

    Parameters
    ----------
    json
        As JSON: times in UTC, durations in seconds.
    """
    timeout = get_settings().agent_timeout

    async def read() -> Status:
        async with connect() as client:
            return await read_status(client)

    found = asyncio.run(read())
    if json:
        say_json(status_as_json(found))
        return
    for part in tables.status_tables(found, timeout):
        out.print(part)


def scale(jobs: int, *, pool: Pool | None = None) -> None:
    """Change how many jobs run at once, on all hosts together, while jobs run.

    Running jobs are left alone: where there are more, the next job starts when enough have ended. A
    host takes no more jobs than its worker was started for (`prefecture up --most`).

    Example: `prefecture scale 4`

    Parameters
    ----------
    jobs
        The maximum number of jobs at once. 0: no job starts.
    pool
        The pool. Default: docker where an engine answers.
    """
    if jobs < 0:
        raise OperatorError(f"{jobs} jobs at once: use 0 or more")
    chosen = pool or _usual_pool()

    async def change() -> int | None:
        async with connect() as client:
            await scale_pool(client, chosen, jobs)
            return await read_slots(client, chosen)

    slots = asyncio.run(change())
    say(f"at most {jobs} jobs at once on pool {chosen}")
    if slots is not None and slots < jobs:
        workers = f"the workers that serve it take {slots}" if slots else "no worker serves it"
        err.print(
            f"{workers}: start them for more with `prefecture up --most {jobs}`, or `prefecture "
            "work --limit` on this host or another",
            soft_wrap=True,
        )


def drain(
    host: str, *, deadline: str | None = None, wait: Flag = False, undo: Flag = False
) -> None:
    """Let a host take no new job, to take it out of service; its jobs run to their end.

    The server keeps it: it holds for a host that is away too, and until --undo. Prefect's own
    worker cannot be told: stop it.

    Example: `prefecture drain host-1 --deadline 10m --wait`

    Parameters
    ----------
    host
        The host's name, or that of its worker, as in `prefecture status`.
    deadline
        After which time jobs that still run are moved: they start again on other hosts, before all
        waiting jobs, and that counts as no crash. 90s, 10m or 2h. Default: never.
    wait
        Return when no job runs there any more.
    undo
        Let the host take jobs again.
    """
    if undo and (deadline or wait):
        raise OperatorError("--undo: leave --deadline and --wait out")
    after = None if deadline is None else span(deadline)
    if deadline is not None and after is None:
        raise OperatorError(f"--deadline {deadline[:80]!r}: use a span such as 90s, 10m or 2h")

    async def change() -> None:
        async with connect() as client:
            if undo:
                await hosts.undo_drain(client, host)
                say(f"{host} takes jobs again")
                return
            members = await hosts.drain(client, host, after)
            workers = {member.worker for member in members}
            running = await hosts.running_on(client, workers)
            say(drain_line(host, running, deadline))
            for line in drain_warnings(members, deadline):
                say_aside(line)
            if wait:
                await hosts.until_empty(client, workers)
                say(f"no job runs on {host}")

    asyncio.run(change())


def work(*, pool: Pool | None = None, name: str | None = None, limit: int = 2) -> None:
    """Run a worker on this host, for a server elsewhere.

    Runs in the foreground, without a supervisor: see `prefecture supervise`.

    Example: `prefecture work --limit 4`

    Parameters
    ----------
    pool
        The pool to serve. Default: docker where an engine answers.
    name
        The worker's name. Default: this host's.
    limit
        How many jobs run on this host at once.
    """
    if limit < 1:
        raise OperatorError(f"--limit {limit}: at least 1 job must be able to run")
    settings = get_settings()
    chosen = pool or _usual_pool()
    called = name or socket.gethostname()
    if chosen is Pool.ECS and is_on_loopback(server_api()):
        say_aside(
            f"tasks in ECS cannot connect to {server_api()}: set PREFECT_API_URL to an address "
            "that they reach"
        )
    argv = programs.worker(chosen, called, limit, settings)
    become(argv, programs.worker_env(settings, called, server_api()))


def supervise(*, pool: Pool | None = None, worker: str | None = None) -> None:
    """Run a supervisor for the worker on this host, `prefecture work` or Prefect's own.

    Runs in the foreground. It runs crashed jobs again, and cleans up after them.

    Example: `prefecture supervise`

    Parameters
    ----------
    pool
        The worker's pool. Default: docker where an engine answers.
    worker
        The worker's name. Default: this host's.
    """
    chosen = pool or _usual_pool()
    name = worker or socket.gethostname()
    argv = programs.supervisor(chosen, name)
    become(argv, programs.supervisor_env(get_settings(), name, server_api()))


def ui() -> None:
    """Print a link that opens Prefect's UI and logs the browser in.

    A link works once, and for an hour.

    Example: `prefecture ui`
    """
    say(login_link.make(server_api().removesuffix("/api"), known_password()))


def password() -> None:
    """Print the user and password of the API, for curl and for Prefect's own commands.

    Commands of Prefecture on the host of `prefecture up` find them by themselves.

    Example: `prefecture password`
    """
    say(known_password())


def _usual_pool() -> Pool:
    # Imported here: most commands have no use for it, and it takes a fifth of their time.
    from deployments.local.docker_engine import find_engine

    return Pool.DOCKER if find_engine() else Pool.PROCESS
