"""Runs that are caught between Pending and their container or process."""

from collections.abc import Generator
from contextlib import contextmanager

from tests.chaos.harness.drill import Drill, Run
from tests.support.containers import containers, run_of_container
from tests.support.platform import Platform, wait_until
from tests.support.processes import processes, worker

_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a run's process, by Prefect's worker


def instances(platform: Platform) -> set[str]:
    """The flow runs that have a container or a process."""
    if platform.pool == "docker":
        return {run_of_container(one) for one in containers(platform)}
    return {environment.get(_RUN, "") for _, _, environment in processes(platform)}


@contextmanager
def worker_frozen_before_start(drill: Drill) -> Generator[list[Run]]:
    """While the block runs, the worker stands still, with runs it has taken and not started.

    Jobs must be waiting: with each that it takes there is a moment in which it can be caught.
    """
    process = worker(drill.platform)

    def caught() -> list[Run]:
        pending = list(drill.runs(type={"any_": ["PENDING"]}))
        if not pending:
            return []
        process.suspend()
        there = instances(drill.platform)
        alone = [run for run in pending if run["id"] not in there]
        if not alone:
            process.resume()
        return alone

    runs = wait_until(caught, what="a run is Pending, and not started")
    try:
        yield runs
    finally:
        if process.is_running():
            process.resume()
