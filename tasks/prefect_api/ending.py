"""The end of a program at a signal, whatever it still waits for: the server may be away."""

import os
import sys
import threading

ENDS_WITHIN = 30.0
"""Seconds after SIGTERM or SIGINT in which every program ends that has no other to end first."""


def end_in_time(program: str) -> None:
    """Have this process end within ENDS_WITHIN seconds from now, if it does not before.

    Prefect's client repeats a request that is not answered for minutes, also while a program ends.
    """
    timer = threading.Timer(ENDS_WITHIN, _end, [program])
    timer.daemon = True
    timer.start()


def _end(program: str) -> None:
    print(f"{program}: ended {ENDS_WITHIN:.0f} s after the signal", file=sys.stderr, flush=True)
    os._exit(0)
