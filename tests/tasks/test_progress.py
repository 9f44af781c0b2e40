"""The progress of a job in the UI, however long the server takes over it."""

import asyncio
from uuid import UUID, uuid4

import pytest

from tasks.runtime import progress
from tasks.runtime.progress import show_progress


class _SlowServer:
    """Takes its time over each update but the last, as a locked database makes it."""

    def __init__(self) -> None:
        self.made: list[float] = []
        self.said: list[str] = []
        self.asked: list[float] = []
        self.noted: list[float] = []
        self.is_made = asyncio.Event()
        self.is_asked = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def create(self, _: UUID, kind: str, percent: float, description: str) -> UUID:
        assert kind == "progress"
        self.made.append(percent)
        self.said.append(description)
        self.is_made.set()
        return uuid4()

    async def update(self, _: UUID, percent: float, description: str) -> None:
        self.said.append(description)
        self.asked.append(percent)
        self.is_asked.set()
        # It has the request, whatever becomes of who asked.
        await asyncio.shield(self._note(percent))

    async def _note(self, percent: float) -> None:
        if percent < 100:
            await self.goes_on.wait()
        self.noted.append(percent)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _SlowServer:
    server = _SlowServer()
    monkeypatch.setattr(progress, "_run_id", uuid4)  # no flow run is needed to see what is sent
    monkeypatch.setattr(progress, "create_artifact", server.create)
    monkeypatch.setattr(progress, "update_artifact", server.update)
    return server


async def test_the_last_word_is_the_last(
    server: _SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0.01)
    async with show_progress("work") as shown:
        await server.is_made.wait()
        shown.set(0.5)
        await server.is_asked.wait()
        shown.set(1.0)
        asyncio.get_running_loop().call_later(0.1, server.goes_on.set)
    assert server.asked == server.noted == [50.0, 100.0]
    assert server.made == [0.0]
    assert server.said == ["0 %: work", "50 %: work", "100 %: work"]


async def test_work_that_is_soon_done_has_no_bar(
    server: _SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 3600)
    async with show_progress("work") as shown:
        shown.set(0.5)
    assert server.made == server.asked == []
