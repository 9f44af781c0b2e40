"""Tells standby containers and processes, started before there are jobs for them, from the others.

A container keeps the labels that it was made with, and a standby is made before there is a job for
it. Its name can change, and so says which run it serves, if any. A process has the run in a
variable of its environment, as any job has; a fork server's says NO_RUN.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

NO_RUN = UUID(int=0)
"""The flow run of a standby that serves none."""

LABEL = "prefecture.standby"
"""On every standby container; the label of the others is RUN."""
RUN = "io.prefect.flow-run-id"
"""The label by which Prefect's Docker worker says which flow run a container is of."""

_ID = 36  # characters of an id
_OF_THE_RUN = "PREFECT__"  # how the variables begin that Prefect's workers set for each run anew


def name_of(job: str | None, run: UUID) -> str:
    """What a container is called once it is a run's. `job`: what the engine lets one be called."""
    return f"{job or 'job'}.{run}"


def run_of(labels: Mapping[str, str], names: Iterable[str]) -> UUID | None:
    """The flow run that a container is of; None where it waits for one, or is none of ours."""
    if RUN in labels:
        return UUID(labels[RUN])
    if LABEL in labels:
        for name in names:
            try:
                return UUID(name[-_ID:])
            except ValueError:
                continue  # it waits: its name is the engine's choice, or another link to it
    return None


def is_standby(labels: Mapping[str, str], names: Iterable[str]) -> bool:
    """Whether a container is a standby that serves no run yet."""
    return LABEL in labels and run_of(labels, names) is None


def split_variables(given: Mapping[str, str | None]) -> tuple[dict[str, str], dict[str, str]]:
    """A job's environment: what the jobs of a pool have in common, and what is its run's own."""
    known = {key: value for key, value in given.items() if value is not None}
    of_the_run = {key: value for key, value in known.items() if key.startswith(_OF_THE_RUN)}
    return {key: value for key, value in known.items() if key not in of_the_run}, of_the_run
