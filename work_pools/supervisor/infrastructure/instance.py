"""What an attempt is on this host, a container or a process, behind one interface."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True)
class Exit:
    """How an instance ended, as far as the host can tell."""

    code: int | None = None
    """Exit code; None where nothing tells."""
    out_of_memory: bool = False
    limit: int = 0
    """Memory limit in bytes, 0 for none."""
    error: str = ""
    """Why it did not start, in the engine's words."""
    tail: str = ""
    """The last lines of its output."""


@dataclass(frozen=True)
class Instance:
    """A container or a process that an attempt runs in, or ran in."""

    run: UUID
    id: str
    """Container id, or pid."""
    alive: bool
    since: datetime
    """When it was made, or, where it is not alive, when it ended."""
    worker: str | None = None
    """The worker that made it, where that stands on it."""
    exit: Exit | None = None
    """None while it is alive or was never started."""
    sibling: bool = False
    """Whether it is only what the attempt started beside itself: it ends with the attempt, and says
    nothing of it."""


Found = Mapping[UUID, Sequence[Instance]]
"""Every instance on this host, by flow run; one run may have had several."""


class Instances(Protocol):
    """The instances of one kind on this host.

    Each method may raise EngineUnavailable: what is there cannot be seen.
    """

    async def find(self) -> Found:
        """All of ours, alive or not."""
        ...

    async def stop(self, instance: Instance, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds. Returns once it is gone."""
        ...

    async def remove(self, instance: Instance) -> None:
        """Kill it where it is alive, and remove what is left of it."""
        ...

    async def built(self) -> Mapping[UUID, str]:
        """The images that were built for jobs, by job."""
        ...

    async def remove_image(self, name: str) -> None:
        """Remove one of them; the layers below it stay for the next."""
        ...

    def exits(self) -> AsyncIterator[None]:
        """Yields as soon as an instance may have ended; never where nothing can tell."""
        ...

    async def close(self) -> None:
        """Let go of the engine."""
        ...
