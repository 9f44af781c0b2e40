"""Sets up libvips before anything uses it. Has the one private name of pyvips that is needed.

pyvips passes the warnings of libvips to Python's logging, in the thread of libvips that warns. The
garbage collector may run there and free another picture. A damaged JPEG warns when it is freed, and
GLib ends a process with SIGABRT that warns within a warning: several damaged pictures could end a
job. Nobody reads these warnings.
"""

from tasks.settings import silence_libvips

silence_libvips()  # before libvips is initialised, which importing it does

import pyvips  # noqa: E402

pyvips._remove_log_handler()  # pyright: ignore
