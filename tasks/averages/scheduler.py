"""Schedules the parts of a job on this run and on helper runs.

The job's own run never waits for a helper that has not started: it does the remaining parts itself.
So the job ends with any number of free slots, even with only its own. Helpers only save time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from tasks.averages.partition import Part
from tasks.averages.speculation import SpeculationRule
from tasks.errors import UnreadableInput

INTERVAL = 1.0  # seconds between two observations of the helpers


class Stage(Enum):
    """The stage of a helper run."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    """Completed, failed, crashed or cancelled; `finished` says whether the part is there."""


@dataclass(frozen=True)
class Helper:
    """An observation of a helper run, which does one part."""

    stage: Stage
    seconds: float = 0.0
    """Seconds that it has run."""
    fraction: float = 0.0
    """The share of its part that is done, 0 to 1."""
    reason: str | None = None
    """Why no run can do the part; None where it has not failed."""


class Helpers(Protocol):
    """The helper runs of a job."""

    async def start(self, parts: Sequence[Part]) -> None:
        """Create a run for each part; for a part that has a run, a second, speculative run."""
        ...

    async def look(self) -> Mapping[Part, Sequence[Helper]]:
        """Observe all helpers."""
        ...

    async def withdraw(self, part: Part) -> None:
        """Cancel the runs of a part that have not started."""
        ...

    async def stop(self) -> None:
        """Cancel all runs that have not ended."""
        ...


@dataclass
class Scheduler:
    """Has the parts of a job done, and records the progress."""

    parts: Sequence[Part]
    workers: int
    """Maximum of runs that work at the same time, including this run."""
    helpers: Helpers
    finished: Callable[[], Awaitable[Mapping[Part, float]]]
    """Returns the finished parts, and the seconds that each took."""
    do: Callable[[Part], Coroutine[Any, Any, None]]
    """Does a part in this run."""

    rule: SpeculationRule
    done: Mapping[Part, float] = field(default_factory=dict[Part, float])
    seen: Mapping[Part, Sequence[Helper]] = field(default_factory=dict[Part, Sequence[Helper]])
    mine: Part | None = None
    copied: int = 0

    async def run(self) -> None:
        """Have every part done. Raises UnreadableInput where a part cannot be done."""
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
                await self._start_helpers([part for part in slow if part != self.mine])
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
        """Choose a part for this run, the last one first.

        First a part without a helper; else one whose helpers are not running; else one with a
        helper that has not started; else the slowest part, as its speculative second run.
        """
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

    async def _start_helpers(self, slow: Sequence[Part]) -> None:
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
