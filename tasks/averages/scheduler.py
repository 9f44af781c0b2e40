"""The parts of a job done by this run and by others, and none of them waited for that can be done.

The run that has the job never waits for one that has not started: what is left it does itself, so
that a job ends in whatever number of slots there are, its own one included. Others only help.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from tasks.averages.partition import Part
from tasks.averages.speculation import SpeculationRule
from tasks.errors import UnreadableInput

INTERVAL = 1.0  # seconds between two looks at the others


class Stage(Enum):
    """How far a helper is."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    """Ended, crashed or cancelled: whether its part is there, the parts tell."""


@dataclass(frozen=True)
class Helper:
    """A run that does a part."""

    stage: Stage
    seconds: float = 0.0
    """That it has run."""
    fraction: float = 0.0
    """Of its part that is done."""
    reason: str | None = None
    """Why the part cannot be done by anyone."""


class Helpers(Protocol):
    """Runs that do parts of this job."""

    async def start(self, parts: Sequence[Part]) -> None:
        """Ask for a run of each part; once more of a part that has one asks for a copy."""
        ...

    async def look(self) -> Mapping[Part, Sequence[Helper]]:
        """How far they are."""
        ...

    async def withdraw(self, part: Part) -> None:
        """Take back what has not started."""
        ...

    async def stop(self) -> None:
        """End whatever has not ended: nothing is wanted any more."""
        ...


@dataclass
class Scheduler:
    """A job that is done in parts, and how far it is."""

    parts: Sequence[Part]
    workers: int
    """Runs that work at once, this one included."""
    helpers: Helpers
    finished: Callable[[], Awaitable[Mapping[Part, float]]]
    """The parts that are there, and how many seconds each took."""
    do: Callable[[Part], Coroutine[Any, Any, None]]
    """Does a part in this run."""
    rule: SpeculationRule
    done: Mapping[Part, float] = field(default_factory=dict[Part, float])
    seen: Mapping[Part, Sequence[Helper]] = field(default_factory=dict[Part, Sequence[Helper]])
    mine: Part | None = None
    copied: int = 0

    async def run(self) -> None:
        """Have every part done. Raises UnreadableInput where one cannot be."""
        own: asyncio.Task[None] | None = None
        try:
            while True:
                self.done = await self.finished()
                if len(self.done) == len(self.parts):
                    return
                self.seen = await self.helpers.look()
                self._refuse()
                if own is not None and own.done():
                    own.result()
                    own = self.mine = None
                    continue
                slow = self._slow()
                if own is None and (part := self._for_this_run(slow)) is not None:
                    await self.helpers.withdraw(part)
                    self.mine = part
                    own = asyncio.create_task(self.do(part))
                await self._share_out([part for part in slow if part != self.mine])
                if own is None:
                    await asyncio.sleep(INTERVAL)
                else:
                    await asyncio.wait({own}, timeout=INTERVAL)
        finally:
            if own is not None:
                own.cancel()
                await asyncio.gather(own, return_exceptions=True)
            await self.helpers.stop()

    def _left(self) -> list[Part]:
        return [part for part in self.parts if part not in self.done and part != self.mine]

    def _for_this_run(self, slow: Sequence[Part]) -> Part | None:
        """What this run is to do, from the end: what no other was given; else what none has begun,
        or begun and not ended; else what is slow, its copy not begun, or not yet asked for."""
        left = self._left()
        fresh = [part for part in left if part not in self.seen]
        idle = [part for part in left if Stage.RUNNING not in self._stages(part)]
        waiting = [part for part in left if Stage.WAITING in self._stages(part)]
        if fresh or idle or waiting:
            return (fresh or idle or waiting)[-1]
        if slow:
            self.copied += 1
            return slow[0]
        return None

    def _stages(self, part: Part) -> set[Stage]:
        return {helper.stage for helper in self.seen.get(part, ())}

    async def _share_out(self, slow: Sequence[Part]) -> None:
        left = self._left()
        busy = sum(bool(self._stages(part) - {Stage.GONE}) for part in left)
        fresh = [part for part in left if part not in self.seen]
        wanted = fresh[: max(0, self.workers - 1 - busy)]
        if not fresh:
            self.copied += len(slow)
            wanted += slow
        if wanted:
            await self.helpers.start(wanted)

    def _slow(self) -> list[Part]:
        running = {
            part: helpers[0].seconds
            for part, helpers in self.seen.items()
            if part not in self.done
            and part != self.mine
            and len(helpers) == 1
            and helpers[0].stage is Stage.RUNNING
        }
        return self.rule.slow(len(self.parts), self.done, running, self.copied)

    def _refuse(self) -> None:
        for part in self.parts:
            for helper in self.seen.get(part, ()):
                if helper.reason is not None and part not in self.done:
                    raise UnreadableInput(helper.reason)
