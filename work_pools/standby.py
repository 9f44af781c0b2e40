"""Identification of standby containers and processes, which start before there is a job for them.

A container's labels cannot change after its creation, and a standby container is created before
its job exists. Its name can change, so the name holds the id of the run that it serves, if any. A
process has the run's id in an environment variable, as any job has; a fork server has NO_RUN there.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

from tasks.settings import AUTH_VARIABLE, NETWORK_VARIABLE

NO_RUN = UUID(int=0)
"""The flow run id of a standby that serves no run."""

LABEL = "prefecture.standby"
"""Label of every standby container; all other containers of jobs have the label RUN."""
RUN = "io.prefect.flow-run-id"
"""Label with the id of a container's flow run, set by Prefect's Docker worker."""

_ID = 36  # characters of an id
_OF_THE_RUN = "PREFECT__"  # prefix of the variables that Prefect's workers set for each run


def name_of(job: str | None, run: UUID) -> str:
    """The name of a container that serves `run`. `job`: a name that the engine accepts."""
    return f"{job or 'job'}.{run}"


def run_of(labels: Mapping[str, str], names: Iterable[str]) -> UUID | None:
    """The flow run of a container; None where it serves no run yet, or is not ours."""
    if RUN in labels:
        return UUID(labels[RUN])
    if LABEL in labels:
        for name in names:
            try:
                return UUID(name[-_ID:])
            except ValueError:
                continue  # on standby: its own first name, or the name of a link to it
    return None


def is_standby(labels: Mapping[str, str], names: Iterable[str]) -> bool:
    """Whether a container is a standby that serves no run yet."""
    return LABEL in labels and run_of(labels, names) is None


def split_variables(given: Mapping[str, str | None]) -> tuple[dict[str, str], dict[str, str]]:
    """Split a job's environment: variables that all jobs of a pool share, and those of its run."""
    known = {key: value for key, value in given.items() if value is not None}
    of_the_run = {
        key: value
        for key, value in known.items()
        # A standby waits without a password: each run brings its own.
        if key.startswith(_OF_THE_RUN) or key in (AUTH_VARIABLE, NETWORK_VARIABLE)
    }
    return {key: value for key, value in known.items() if key not in of_the_run}, of_the_run
