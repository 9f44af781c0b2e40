"""The start of a program: what it imports lives as long as it does, and is no garbage.

Until all of it is there, Ctrl-C ends the program without a traceback of where it was.
"""

import atexit
import gc
import signal
import threading


class importing:  # reads as a statement, as those of contextlib do
    """Import what a program needs without a look for garbage, neither now nor at its end.

    Measured on Prefect's client: 0.8 s of CPU in place of 1.2 s from start to end, 1.4 in place of
    2.4 s on its server. Not contextlib's: its blocks may swallow an exception, which leaves every
    name that is imported possibly unbound, as a type checker sees it.
    """

    def __enter__(self) -> None:
        gc.disable()
        # Whatever else Ctrl-C does by now, nohup's nothing for example, it goes on doing.
        self._interrupts = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._interrupts:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *error: object) -> None:
        if self._interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)  # Python's end looks for garbage as well, and frees all of it
