"""Tells the flow runs of jobs from all others."""

from prefect.client.schemas.objects import FlowRun

_PARAMETERS = {"payload", "results_directory"}  # of a compute task


def is_of_a_job(run: FlowRun) -> bool:
    """Whether a flow run is an attempt at a job, rather than something else in our pools.

    By its parameters. A label would need a second rule beside it: Prefect's client sets no labels
    on deployments, and those of an existing one cannot be changed, so that the runs of Prefect's
    form and of schedules would have none.
    """
    return bool(_PARAMETERS & run.parameters.keys())
