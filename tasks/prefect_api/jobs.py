"""Tells the flow runs of jobs from all others."""

from prefect.client.schemas.objects import FlowRun

_PARAMETERS = {"payload", "results_directory"}  # of a compute task


def is_of_a_job(run: FlowRun) -> bool:
    """Whether a flow run is an attempt at a job, rather than something else in our pools.

    By its parameters: Prefect's form and `prefect deployment run` set no labels, and a run of a
    deployment that has been deleted has nothing else left.
    """
    return bool(_PARAMETERS & run.parameters.keys())
