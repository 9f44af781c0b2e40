"""Options of a compute task, declared in its decorator and read where it is deployed or run."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts.jobs import FRESH_CONTAINER, SERVER_ALONE

_ATTRIBUTE = "prefecture_task"


class TaskOptions(BaseModel):
    """What jobs of a compute task need: a container of their own, the network, a time limit."""

    model_config = ConfigDict(frozen=True)

    fresh_container: bool = False
    """Whether each job of this task has a container of its own."""
    network: bool = True
    """Whether jobs of this task connect to anything but their Prefect server and the storage."""
    max_duration: int | None = Field(default=None, ge=1, le=31_536_000)
    """Seconds one attempt may run, where neither the job nor its deployment says; None: the limit
    of the pool."""

    @property
    def job_variables(self) -> dict[str, Any]:
        """The same options as job variables of a work pool."""
        variables: dict[str, Any] = {}
        if self.max_duration is not None:
            variables["max_duration"] = self.max_duration
        if self.fresh_container:
            variables["container"] = FRESH_CONTAINER
        if not self.network:
            variables["network"] = SERVER_ALONE
        return variables


def declare(function: Callable[..., Any], options: TaskOptions) -> None:
    """Mark the function of a flow as a compute task, with its options."""
    setattr(function, _ATTRIBUTE, options)


def declared(function: Callable[..., Any]) -> TaskOptions | None:
    """Return the options of a compute task; None where the function is no compute task."""
    options = getattr(function, _ATTRIBUTE, None)
    return options if isinstance(options, TaskOptions) else None
