"""The terminal that the commands share."""

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from tasks.errors import OperatorError

_WIDE = 160  # columns where the output is no terminal: a pipe or a log needs no folding

out = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE
)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
"""An option without a value."""
AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
"""The option that every command has which reads something."""


def say(message: str) -> None:
    """A line for whoever reads along, as long as it may be."""
    out.print(message, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:
    """A value for a machine, in one line."""
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False)}\n")


def confirm(query: str, *, yes: bool) -> bool:
    """Whether the user agrees. Raises OperatorError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise OperatorError(f"{query} Add --yes: this is no terminal, so nobody can be asked")
    try:
        return out.input(f"{query} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
