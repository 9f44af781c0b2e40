"""The command of every job.

    python -m work_pools.entrypoint.run [--fork-server | --standby]

With an argument it imports first what any job imports, and forks a process for each flow run that
the worker asks for on stdin: see work_pools.forking.
"""

import gc
import sys

from tasks.settings import spare_the_client

FORK_SERVER = "--fork-server"
"""The argument of a fork server of the pool `process`."""
STANDBY = "--standby"
"""The argument of a fork server in a container."""


def main() -> None:
    """Serve the flow run that the environment names, or those that a worker asks for."""
    # While libraries are imported little becomes garbage, and looking for it again and again takes
    # a quarter of the time. It is looked for again once there is a run.
    gc.disable()
    spare_the_client()
    # Not before: Prefect reads its settings when it is imported.
    from work_pools.entrypoint.flow_engine import import_before_fork, serve
    from work_pools.forking import server, slot

    # Arguments are removed: Prefect's engine would take one for the run's id.
    match sys.argv[1:]:
        case [argument] if argument == FORK_SERVER:
            del sys.argv[1:]
            import_before_fork()
            if server.serve_runs():
                serve()
        case [argument] if argument == STANDBY:
            del sys.argv[1:]
            import_before_fork()
            ended_well = slot.serve_runs()
            serve()
            ended_well()
        case _:
            serve()


if __name__ == "__main__":
    main()
