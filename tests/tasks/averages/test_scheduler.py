"""Parts done by this run and by helpers, of which some never start, crash or hang."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tasks.averages import scheduler
from tasks.averages.partition import Part, partition
from tasks.averages.scheduler import Helper, Scheduler, Stage
from tasks.averages.speculation import SpeculationRule
from tasks.errors import UnreadableInput

PARTS = partition(20, 2)


@dataclass
class Crew:
    """Helpers that do as a test says, a look at a time."""

    slots: int
    """How many of them run at once."""
    crashing: set[Part] = field(default_factory=set[Part])
    hanging: set[Part] = field(default_factory=set[Part])
    refused: Part | None = None
    asked: list[Part] = field(default_factory=list[Part])
    done: dict[Part, float] = field(default_factory=dict[Part, float])
    stages: dict[Part, list[Stage]] = field(default_factory=dict[Part, list[Stage]])
    most: int = 0
    busy_until: Part | None = None
    """This run is at its own part as long as that one is not done."""
    waits_for_copy: bool = False
    """This run is at the last part but one until the part that hangs was asked for again."""
    asked_again: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    own: list[Part] = field(default_factory=list[Part])
    stopped: bool = False

    async def start(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part in self.asked:
                self.asked_again.set()
            self.asked.append(part)
            self.stages.setdefault(part, []).append(Stage.WAITING)

    async def look(self) -> Mapping[Part, Sequence[Helper]]:
        for part, stages in self.stages.items():
            for n, stage in enumerate(stages):
                hangs = part in self.hanging and n == 0
                if stage is Stage.RUNNING and not hangs:
                    stages[n] = Stage.GONE
                    if part not in self.crashing:
                        self.done[part] = 1.0
        for stages in self.stages.values():
            for n, stage in enumerate(stages):
                if stage is Stage.WAITING and self.running() < self.slots:
                    stages[n] = Stage.RUNNING
        self.most = max(self.most, self.running())
        if self.busy_until in self.done:
            self.released.set()
        return {
            part: [
                Helper(stage, 1000.0, reason="bad.csv" if part == self.refused else None)
                for stage in stages
            ]
            for part, stages in self.stages.items()
        }

    def running(self) -> int:
        return sum(stages.count(Stage.RUNNING) for stages in self.stages.values())

    async def withdraw(self, part: Part) -> None:
        self.stages[part] = [
            Stage.GONE if stage is Stage.WAITING else stage for stage in self.stages.get(part, [])
        ]

    async def stop(self) -> None:
        self.stopped = True

    async def finished(self) -> Mapping[Part, float]:
        return dict(self.done)

    async def do(self, part: Part) -> None:
        await asyncio.sleep(0)
        self.own.append(part)
        if self.busy_until is not None:
            await self.released.wait()
        if self.waits_for_copy and len(self.done) == len(PARTS) - 2:
            await self.asked_again.wait()
        self.done[part] = 1.0


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "INTERVAL", 0.001)


def run(crew: Crew, workers: int = 4) -> Scheduler:
    job = Scheduler(PARTS, workers, crew, crew.finished, crew.do, SpeculationRule())
    asyncio.run(asyncio.wait_for(job.run(), 240))
    assert set(job.done) == set(PARTS)
    assert crew.stopped
    return job


@pytest.mark.parametrize("slots", [0, 1, 3, 100])
def test_every_part_is_done_in_any_number_of_slots(slots: int) -> None:
    crew = Crew(slots)
    run(crew)
    assert crew.most <= min(slots, 3)
    assert len(set(crew.own)) == len(crew.own)
    if slots == 0:
        assert sorted(crew.own) == PARTS


def test_one_worker_asks_for_no_help() -> None:
    crew = Crew(100)
    run(crew, workers=1)
    assert crew.asked == []


def test_what_crashed_is_done_here() -> None:
    crew = Crew(100, crashing=set(PARTS[:5]))
    run(crew)
    assert {part for part in PARTS[:5] if part in crew.asked} <= set(crew.own)


def test_what_hangs_is_done_by_this_run_too_when_it_has_nothing_else_to_do() -> None:
    crew = Crew(100, hanging={PARTS[0]})
    job = run(crew)
    assert job.copied == 1
    assert crew.own.count(PARTS[0]) == 1
    assert crew.asked.count(PARTS[0]) == 1


def test_what_hangs_is_given_to_another_helper_while_this_run_is_busy() -> None:
    crew = Crew(100, hanging={PARTS[0]}, busy_until=PARTS[0])
    job = run(crew)
    assert job.copied == 1
    assert crew.asked.count(PARTS[0]) == 2
    assert PARTS[0] not in crew.own


def test_a_copy_that_finds_no_slot_is_not_waited_for() -> None:
    # The one slot is taken by the run that hangs; this run is busy when the copy is asked for.
    crew = Crew(1, hanging={PARTS[0]}, waits_for_copy=True)
    job = run(crew)
    assert job.copied == 1
    assert crew.asked.count(PARTS[0]) == 2
    assert crew.own.count(PARTS[0]) == 1


def test_what_cannot_be_done_ends_all() -> None:
    crew = Crew(100, hanging={PARTS[0]}, refused=PARTS[0])
    job = Scheduler(PARTS, 4, crew, crew.finished, crew.do, SpeculationRule())
    with pytest.raises(UnreadableInput, match=r"bad\.csv"):
        asyncio.run(job.run())
    assert crew.stopped
