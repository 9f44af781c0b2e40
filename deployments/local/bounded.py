"""python -m deployments.local.bounded COMMAND ...: runs one of Prefect's own programs.

Passes SIGTERM or SIGINT on, once, and kills the program at the second, or where it has not ended
after ENDS_WITHIN seconds: Prefect's own may lose the signal, or wait for a server that is away.
"""

import ctypes
import os
import signal
import subprocess
import sys
from functools import partial

from tasks.prefect_api.ending import ENDS_WITHIN

_LIBC = ctypes.CDLL(None)  # before the fork
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the command until it ends, or until some time after the first signal."""
    told, running = list[int](), list[subprocess.Popen[bytes]]()

    def stop(number: int, _: object) -> None:
        told.append(number)
        signal.alarm(int(ENDS_WITHIN))
        for program in running:
            program.send_signal(number if told == [number] else signal.SIGKILL)

    def kill(*_: object) -> None:
        for program in running:
            os.killpg(program.pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    die = partial(_LIBC.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # No thread runs, which could hold a lock that a preexec_fn needs.
    running.append(subprocess.Popen(sys.argv[1:], start_new_session=True, preexec_fn=die))
    if told:
        running[0].send_signal(signal.SIGTERM)
    code = running[0].wait()
    return 0 if told else abs(code)


if __name__ == "__main__":
    sys.exit(main())
