"""The command of every job.

    python -m work_pools.engine [--ahead]

With `--ahead` it imports first what any job imports, and waits on stdin for the variables of the
run that it will serve; it serves that one, and ends.
"""

import gc
import sys

from tasks.settings import spare_the_client

AHEAD = "--ahead"
"""The argument of an engine that is started ahead of its run."""


def main() -> None:
    """Serve the flow run that the environment names, or stdin."""
    # While libraries are imported little becomes garbage, and looking for it again and again takes
    # a quarter of the time. It is looked for again once there is a run.
    gc.disable()
    spare_the_client()
    # Not before: Prefect reads its settings when it is imported.
    from work_pools.serving import serve, wait_for_run

    if AHEAD in sys.argv:
        sys.argv.remove(AHEAD)  # the engine would take it for the run's id
        if not wait_for_run():
            return
    serve()


if __name__ == "__main__":
    main()
