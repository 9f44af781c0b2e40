"""What a compute task says of itself where it is defined, for those who deploy or run it."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts.jobs import FRESH_CONTAINER

_ATTRIBUTE = "prefecture_task"


class TaskOptions(BaseModel):
    """What a compute task needs of the container and of the time of its jobs."""

    model_config = ConfigDict(frozen=True)

    fresh_container: bool = False
    """Whether a container of this task serves one job alone."""
    max_duration: int | None = Field(default=None, ge=1, le=31_536_000)
    """Seconds one attempt may run, where neither the job nor its deployment says; None: what the
    pool says."""

    @property
    def job_variables(self) -> dict[str, Any]:
        """The job variables that say the same to a work pool."""
        variables: dict[str, Any] = {}
        if self.max_duration is not None:
            variables["max_duration"] = self.max_duration
        if self.fresh_container:
            variables["container"] = FRESH_CONTAINER
        return variables


def declare(function: Callable[..., Any], options: TaskOptions) -> None:
    """Note on the function of a flow that it is a compute task's."""
    setattr(function, _ATTRIBUTE, options)


def declared(function: Callable[..., Any]) -> TaskOptions | None:
    """The options of a compute task; None where the function is of another flow."""
    options = getattr(function, _ATTRIBUTE, None)
    return options if isinstance(options, TaskOptions) else None
