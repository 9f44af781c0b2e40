"""The processes of one Prefecture, found as an operator would: by what they were started with."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from uuid import UUID

import psutil

from tests.support.platform import Platform, wait_until


def processes(platform: Platform) -> Generator[tuple[psutil.Process, list[str], dict[str, str]]]:
    """Each process whose environment or command names this platform's API or home."""
    for process in psutil.process_iter():
        try:
            words, environment = process.cmdline(), process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        ours = environment.get("PREFECT_API_URL") == platform.api
        if ours or environment.get("PREFECT_HOME") == str(platform.home / "prefect"):
            yield process, words, environment


def processes_of(platform: Platform, run: UUID | str) -> list[psutil.Process]:
    """The processes of a flow run, by their environment."""
    return [
        process
        for process, _, environment in processes(platform)
        if environment.get("PREFECT__FLOW_RUN_ID") == str(run)
    ]


def speaks_to(process: int, platform: Platform) -> bool:
    """Whether a process has a connection to the server."""
    connections = psutil.Process(process).net_connections("tcp")
    return any(one.raddr and one.raddr.port == platform.port for one in connections)


def server(platform: Platform) -> list[psutil.Process]:
    """The server's processes: the command, and what listens on the port."""
    return [
        process
        for process, words, environment in processes(platform)
        if str(platform.port) in words and environment.get("PREFECT_API_URL") != platform.api
    ]


def worker(platform: Platform) -> psutil.Process:
    """The worker, waited for where it is being started again."""
    return _only(platform, "work_pools.worker")


def supervisor(platform: Platform) -> psutil.Process:
    """The supervisor that `up` started, waited for where it is being started again."""
    return _only(platform, "work_pools.supervisor")


def notifier(platform: Platform) -> psutil.Process:
    """The notifier that `up` started, waited for where it is being started again."""
    return _only(platform, "deployments.notifications")


def _only(platform: Platform, *wanted: str) -> psutil.Process:
    def look() -> psutil.Process | None:
        return next(
            (process for process, words, _ in processes(platform) if {*wanted} <= {*words}), None
        )

    return wait_until(look, what=f"a process {' '.join(wanted)}")


@contextmanager
def frozen(process: psutil.Process) -> Generator[None]:
    """While the block runs, a process does nothing, and does not know it."""
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
