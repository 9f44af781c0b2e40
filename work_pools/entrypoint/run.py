"""The command of every job.

    python -m work_pools.entrypoint.run [--fork-server | --standby]

With an argument it is a fork server: it imports the libraries of jobs once, and forks a process for
each flow run that the worker requests on stdin (see work_pools.forking).
"""

import gc
import sys

from tasks.settings import spare_the_client

FORK_SERVER = "--fork-server"
"""Argument for the fork server of the pool `process`."""
STANDBY = "--standby"
"""Argument for the fork server in a container."""


def main() -> None:
    """Serve the flow run that the environment names, or those that a worker requests."""
    # Imports create little garbage, and collecting it would take a quarter of their time. The
    # collector is turned on again once there is a run.
    gc.disable()
    spare_the_client()
    # Imported only now: Prefect reads its settings at import.
    from work_pools.entrypoint.flow_engine import import_before_fork, serve
    from work_pools.forking import server, slot

    # Remove the argument: Prefect's engine would read it as the run's id.
    match sys.argv[1:]:
        case [argument] if argument == FORK_SERVER:
            del sys.argv[1:]
            import_before_fork()
            if server.serve_runs():
                serve()
        case [argument] if argument == STANDBY:
            del sys.argv[1:]
            import_before_fork()
            report_success = slot.serve_runs()
            serve()
            report_success()
        case _:
            serve()


if __name__ == "__main__":
    main()
