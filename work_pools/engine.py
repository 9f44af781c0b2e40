"""The command of every job.

    python -m work_pools.engine [--ahead | --fork-server]

With `--ahead` it imports first what any job imports, and waits on stdin for the variables of the
run that it will serve; it serves that one, and ends.

With `--fork-server` it imports first what any job imports, and forks a process for each flow run
that the worker asks for on stdin: see work_pools.forking.
"""

import gc
import sys

from tasks.settings import spare_the_client

AHEAD = "--ahead"
"""The argument of an engine that is started ahead of its run."""
FORK_SERVER = "--fork-server"
"""The argument of an engine that forks for each run."""


def main() -> None:
    """Serve the flow run that the environment names, or those that a worker asks for."""
    # While libraries are imported little becomes garbage, and looking for it again and again takes
    # a quarter of the time. It is looked for again once there is a run.
    gc.disable()
    spare_the_client()
    # Not before: Prefect reads its settings when it is imported.
    from work_pools.serving import import_before_fork, serve, wait_for_run

    # Arguments are removed: the engine would take one for the run's id.
    if AHEAD in sys.argv:
        sys.argv.remove(AHEAD)
        if not wait_for_run():
            return
    if FORK_SERVER in sys.argv:
        from work_pools.forking.server import serve_runs

        import_before_fork()
        sys.argv.remove(FORK_SERVER)
        if not serve_runs():
            return
    serve()


if __name__ == "__main__":
    main()
