"""Putting Prefecture on a Prefect server, the `prefecture` command, and jobs from Python."""

from deployments.jobs.following import Progress
from deployments.jobs.handle import Job, Result, find_job, submit, submit_many

__all__ = ["Job", "Progress", "Result", "find_job", "submit", "submit_many"]
