"""Commands for operators of Prefecture."""

import asyncio
import socket
from pathlib import Path

from deployments import hosts, login_link, tables
from deployments.apply import apply as apply_all
from deployments.cli.output.console import AsJson, Flag, err, out, say, say_aside, say_json
from deployments.cli.output.drains import drain_line, drain_warnings
from deployments.cli.where import span
from deployments.connection import become, connect, known_password, server_api
from deployments.demo.photos import make_photos
from deployments.demo.run import demo as run_demo
from deployments.local import docker_engine, programs
from deployments.local.up import until_stopped
from deployments.local.up import up as run_up
from deployments.pools import read_slots
from deployments.pools import scale as scale_pool
from deployments.status import Status, read_status
from deployments.status import as_json as status_as_json
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import get_settings

_SAMPLES = 6  # photographs


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


def samples(folder: str = "photos") -> None:
    """Put sample photographs into a folder of the inputs root, for a first job.

    An existing folder is left as it is.

    Example: `prefecture samples`

    Parameters
    ----------
    folder
        The folder's name under the inputs root.
    """
    inputs = get_settings().inputs
    place = inputs / folder
    if not place.resolve().is_relative_to(inputs.resolve()):
        raise OperatorError(f"{folder} leads out of the inputs root: name a folder in {inputs}")
    if place.exists():
        say(f"{place} is there already")
        return
    make_photos(place, _SAMPLES, broken=False)
    say(f"{_SAMPLES} photographs in {place}")


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
    chosen = pool or _usual_pool(docker_engine.find_engine())

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
    chosen = pool or _usual_pool(engine)
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
    chosen = pool or _usual_pool(docker_engine.find_engine())
    called = name or socket.gethostname()
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
    chosen = pool or _usual_pool(docker_engine.find_engine())
    name = worker or socket.gethostname()
    argv = programs.supervisor(chosen, name)
    become(argv, programs.supervisor_env(get_settings(), name, server_api()))


def image() -> None:
    """Build the image of jobs, unless this host's engine has it, and print its tag.

    Example: `prefecture image`
    """
    engine = docker_engine.find_engine()
    if engine is None:
        raise OperatorError("no Docker engine answers: start it, or use the process pool")
    out.print(docker_engine.ensure_image(engine, get_settings(), say))


def demo(*, pool: Pool | None = None, inputs: Path | None = None) -> None:
    """Run real jobs of every compute task on all three queues, watch them, and stop everything.

    `make demo` runs this command. With the process pool, tasks that start containers are left out.

    Example: `prefecture demo --pool process`

    Parameters
    ----------
    pool
        The pool. Default: docker where an engine answers.
    inputs
        A folder of your own photographs.
    """

    async def run() -> bool:
        return await until_stopped(run_demo(pool, inputs, out), say)

    if not asyncio.run(run()):
        raise OperatorError("the demo was stopped")


def _usual_pool(engine: object | None) -> Pool:
    return Pool.DOCKER if engine else Pool.PROCESS


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
