"""The terminal output and options that the commands share."""

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from tasks.errors import OperatorError

_WIDE = 160  # columns in a pipe or a log, which need no folding

out = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE
)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
"""An option without a value."""
AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
"""The option --json of every command that reads."""
JobId = Annotated[
    str,
    Parameter(help="Its id or the first digits of it, or the id of any attempt at it."),
]
"""The argument of every command about one job."""


def say(message: str) -> None:
    """Print a line without wrapping it."""
    out.print(message, markup=False, soft_wrap=True)


def say_aside(message: str) -> None:
    """Print a line on standard error, beside what programs read."""
    err.print(message, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False)}\n")


def confirm(query: str, *, yes: bool) -> bool:
    """Ask the user; returns whether they agree. Raises OperatorError where there is no terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise OperatorError(f"{query} Add --yes: there is no terminal to confirm at")
    try:
        return out.input(f"{query} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
