"""The terminal that the commands share."""

import sys

from rich.console import Console

_WIDE = 160  # columns where the output is no terminal: a pipe or a log needs no folding

out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, highlight=False, markup=False)


def say(message: str) -> None:
    """A line for whoever reads along, as long as it may be."""
    out.print(message, markup=False, soft_wrap=True)
