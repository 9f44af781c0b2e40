"""Several notifiers on one PostgreSQL: one works, and another one takes over when it is gone."""

import asyncio
import contextlib
import logging
from collections.abc import Generator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from deployments.notifications.leadership import LeadershipLost, leading
from deployments.notifications.ledger import keep_subscribers, open_ledger
from tasks.errors import OperatorError
from tasks.settings import Settings
from tests.support.platform import PATIENCE, free_port
from tests.tasks.history.postgres import new_database, postgres_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as address:
        yield address


def host(folder: Path, name: str, url: str) -> Settings:
    return Settings.model_validate({"home": folder / name, "notifications_url": url})


async def test_the_next_leads_once_the_first_has_ended(server: str, tmp_path: Path) -> None:
    url = f"{server}{new_database(server)}"
    first, second = host(tmp_path, "first", url), host(tmp_path, "second", url)
    async with AsyncExitStack() as stack:
        async with leading(first):
            waiting = asyncio.create_task(stack.enter_async_context(leading(second)))
            done, _ = await asyncio.wait({waiting}, timeout=2)
            assert not done, "two at once"
        await asyncio.wait_for(waiting, PATIENCE)


async def test_one_that_loses_its_connection_stops(server: str, tmp_path: Path) -> None:
    url = f"{server}{new_database(server)}"
    async with leading(host(tmp_path, "first", url)) as watch_until_lost:
        watching = asyncio.create_task(watch_until_lost())
        # What serves a connection of this process, as if the network had taken it away.
        mine = {c.laddr.port for c in psutil.Process().net_connections("tcp")}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "postgres" and any(
                    c.raddr and c.raddr.port in mine for c in process.net_connections("tcp")
                ):
                    process.terminate()
        with pytest.raises(LeadershipLost):
            await asyncio.wait_for(watching, PATIENCE)
    async with asyncio.timeout(PATIENCE), leading(host(tmp_path, "second", url)):
        pass


async def test_one_waits_for_a_database_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = host(tmp_path, "first", f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    caplog.set_level(logging.INFO)
    async with AsyncExitStack() as stack:
        waiting = asyncio.create_task(stack.enter_async_context(leading(away)))
        done, _ = await asyncio.wait({waiting}, timeout=3)
        assert not done
        waiting.cancel()
        await asyncio.wait({waiting})
    assert caplog.text.count("the notification database does not answer") == 1


async def test_all_hosts_share_subscribers_and_watermarks(server: str, tmp_path: Path) -> None:
    url = f"{server}{new_database(server)}"
    first, second = host(tmp_path, "first", url), host(tmp_path, "second", url)
    await keep_subscribers(first, [])
    async with open_ledger(first) as here, open_ledger(second) as there:
        assert await here.begun() == await there.begun()
        assert await there.ended([uuid4()]) == set()
    assert not (tmp_path / "first").exists(), "nothing is in a home"


async def test_an_address_of_another_kind(tmp_path: Path) -> None:
    for url in ("mysql://root:secret@host/name", "host"):
        with pytest.raises(OperatorError, match=r"^PREFECTURE_NOTIFICATIONS_URL: use ") as refused:
            await keep_subscribers(host(tmp_path, "first", url), [])
        assert "secret" not in str(refused.value)
