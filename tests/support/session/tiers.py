"""Which tests `make test` runs, and which `make test-rest` adds to them.

`make test` is for everybody, after every change: each kind of thing once, end to end, on one pool.
What is left out has the mark `thorough`: more of the same kind, and the other pool.
"""

from typing import Any

import pytest

from tests.support.needs import engine_answers

THOROUGH = pytest.mark.thorough
_POOLS = ("platform", "trials", "one_slot")


def thorough(*values: Any) -> Any:
    """A set of parameters that `make test` leaves out."""
    return pytest.param(*values, marks=THOROUGH)


def first_of(first: str, every: list[str]) -> list[Any]:
    """A parameter's values, of which `make test` takes the first alone."""
    return [first, *(thorough(value) for value in every if value != first)]


def leave_the_other_pool(items: list[pytest.Item]) -> None:
    """Mark what runs on the other of two pools: processes, where there is a Docker engine."""
    others = [item for item in items if _pool_of(item) is not None]
    if not others:
        return
    other = "process" if engine_answers() else "docker"
    for item in others:
        if _pool_of(item) == other:
            item.add_marker(THOROUGH)


def _pool_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return next((callspec.params[n] for n in _POOLS if callspec and n in callspec.params), None)
