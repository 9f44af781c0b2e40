"""Which of many like tests are for `make test`, and which for `make chaos` alone."""

from typing import Any

import pytest


def long(*values: Any) -> Any:
    """A set of parameters that only `make chaos` has the time for."""
    return pytest.param(*values, marks=pytest.mark.chaos)


def on(*trials: Any) -> pytest.MarkDecorator:
    """The pools that a test is run on: "docker", or long("process") …"""
    return pytest.mark.parametrize("trials", trials, indirect=True)


def named(value: Any) -> str:
    """The name of a parameter: a signal's own, not its number."""
    return str(getattr(value, "name", value))
