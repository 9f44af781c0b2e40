"""Deploying to a Prefect server, the `prefecture` command, and the Python API for jobs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.client.handle import Job, Result, find_job, submit, submit_many
    from deployments.jobs.records import Progress

__all__ = ["Job", "Progress", "Result", "find_job", "submit", "submit_many"]


def __getattr__(name: str) -> object:
    """Import a name of the Python API on first access: our own programs do not need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = "jobs.records" if name == "Progress" else "client.handle"
    return getattr(import_module(f"deployments.{where}"), name)
