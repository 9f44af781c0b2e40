"""One interface to the containers, processes or ECS tasks of attempts."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

_SHORT = 12  # characters of an id, as Docker shows them


@dataclass(frozen=True)
class Exit:
    """The end of an instance, as far as this host knows it."""

    code: int | None = None
    """Exit code; None where it is unknown."""
    out_of_memory: bool = False
    limit: int = 0
    """Memory limit in bytes, 0 for none."""
    error: str = ""
    """The engine's reason why it did not start."""
    tail: str = ""
    """The last lines of its output."""
    stopped: str = ""
    """Why ECS says that the task has ended."""


@dataclass(frozen=True)
class Instance:
    """A container or a process in which an attempt runs, or ran."""

    run: UUID
    id: str
    """Container id, pid, or the ARN of a task."""
    alive: bool
    since: datetime
    """When it was created, or, where it is not alive, when it exited."""
    worker: str | None = None
    """The worker that created it, where a label says so."""
    exit: Exit | None = None
    """None while it is alive or was never started."""
    sibling: bool = False
    """Whether it is an extra container that the attempt's flow started: it ends with the attempt,
    and its exit does not tell how the attempt ended."""

    @property
    def short(self) -> str:
        """The id in a few characters, for logs."""
        return self.id.rpartition("/")[2][:_SHORT]


Found = Mapping[UUID, Sequence[Instance]]
"""Every instance on this host, by flow run; a run may have several."""


class Instances(Protocol):
    """The instances of one kind on this host.

    Every method may raise EngineUnavailable: the engine does not answer.
    """

    async def find(self) -> Found:
        """List all instances of jobs, alive or not."""
        ...

    async def stop(self, instance: Instance, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after `grace` seconds. Returns once the instance has exited."""
        ...

    async def remove(self, instance: Instance) -> None:
        """Kill an instance, and remove what is left of it."""
        ...

    async def built(self) -> Mapping[UUID, str]:
        """The names of the images that were built for jobs, by job id."""
        ...

    async def remove_image(self, name: str) -> None:
        """Remove such an image; its layers stay in the cache of builds."""
        ...

    def exits(self) -> AsyncIterator[None]:
        """Yield as soon as an instance may have exited; never where that cannot be observed."""
        ...

    async def close(self) -> None:
        """Close the connection to the engine."""
        ...
