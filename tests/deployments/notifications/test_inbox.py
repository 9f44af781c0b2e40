"""The inbox, on the events of a real server."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.events import Event

from deployments.notifications.inbox import follow_ends, line, read_ends
from deployments.notifications.schema import JobEnd
from tasks.runtime.events import JobEvent, send_events
from tests.support.outcomes import cancelled, completed, failed
from tests.support.platform import BIN, Platform, ends_with_us, wait_until
from tests.support.processes import speaks_to


@pytest.fixture
async def client(server: Platform) -> AsyncGenerator[PrefectClient]:
    async with get_client() as client:
        yield client


async def end(client: PrefectClient, *ends: JobEnd) -> None:
    now = datetime.now(UTC)
    said: list[tuple[JobEvent, UUID, datetime]] = [
        (end, end.job, now + timedelta(microseconds=number)) for number, end in enumerate(ends)
    ]
    await send_events(client, said)


async def until_listed(client: PrefectClient, *ends: JobEnd) -> list[JobEnd]:
    """The last ends, once these are among them: the server writes them down every 5 s."""
    async with asyncio.timeout(240):
        while True:
            listed = await read_ends(client, 200)
            if all(end in listed for end in ends):
                return listed


async def test_ends_are_listed_newest_last(client: PrefectClient) -> None:
    many = [completed() for _ in range(60)]  # more than a page
    ends = [completed(), failed(), cancelled()]
    await end(client, *many, *ends)
    listed = await until_listed(client, *many, *ends)
    ours = [one for one in listed if one in [*many, *ends]]
    assert ours == [*many, *ends]
    assert await read_ends(client, 0) == []
    assert len(await read_ends(client, 55)) == 55


async def test_a_job_that_was_retried_is_listed_as_it_ended_last(client: PrefectClient) -> None:
    first, other = failed(), completed()
    second = completed(job=first.job, revision=2)
    assert second.event_id != first.event_id
    await end(client, first, other, second)
    listed = await until_listed(client, other, second)
    assert [one for one in listed if one in (first, other, second)] == [other, second]


async def test_what_another_tells_in_our_name_is_passed_over(
    client: PrefectClient, server: Platform
) -> None:
    stranger = Event.model_validate(
        {
            "event": "prefecture.job.completed",
            "resource": {"prefect.resource.id": "prefecture.job.x"},
            "occurred": datetime.now(UTC),
            "payload": {"outcome": "completed"},
        }
    )
    assert server.rest("POST", "/events", [stranger.model_dump(mode="json")]).is_success
    ours = completed()
    await end(client, ours)
    assert ours in await until_listed(client, ours)


async def next_of(ends: AsyncGenerator[JobEnd], *ours: JobEnd) -> JobEnd:
    """The next end that is one of ours: other jobs end meanwhile."""
    async with asyncio.timeout(240):
        while True:
            if (end := await anext(ends)) in ours:
                return end


async def test_each_end_is_followed_once(client: PrefectClient) -> None:
    before, after, last = ours = completed(), failed(), cancelled()
    await end(client, before)
    await until_listed(client, before)
    async with aclosing(follow_ends(client, 50)) as ends:
        assert await next_of(ends, *ours) == before
        await end(client, after)
        assert await next_of(ends, *ours) == after
        await end(client, before, after)  # sent again, by one that was killed in the middle
        await end(client, last)
        assert await next_of(ends, *ours) == last


@pytest.mark.thorough
async def test_one_that_wants_none_of_the_past_gets_none(client: PrefectClient) -> None:
    before = completed()
    await end(client, before)
    await until_listed(client, before)
    async with aclosing(follow_ends(client, 0)) as ends:
        after = completed(ended=datetime.now(UTC) + timedelta(seconds=1))
        new = asyncio.create_task(next_of(ends, before, after))
        await end(client, after)  # whether it listens by now or not
        assert await new == after


def test_a_line_says_what_matters_and_steers_no_terminal() -> None:
    ended = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    done = completed(ended=ended, files=1, bytes=1234, location="/r/d/1")
    local = ended.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert line(done) == (
        f"{local}  {done.job}  find-primes  {done.results_directory}  completed  "
        "1 file, 1,234 bytes: /r/d/1"
    )
    bad = failed(reason="no \x1b[31msuch\x07 thing", results_directory="x\ny")
    assert "\x1b" not in line(bad)
    assert "\n" not in line(bad)
    assert line(bad).endswith(
        "failed  no \N{REPLACEMENT CHARACTER}[31msuch\N{REPLACEMENT CHARACTER} thing"
    )


@pytest.mark.thorough
def test_the_commands(server: Platform, tmp_path: Path) -> None:
    platform = server
    with (tmp_path / "out").open("wb") as out:
        following = subprocess.Popen(
            ends_with_us(str(BIN / "prefecture"), "inbox", "--follow", "--limit", "0"),
            env=platform.environment | {"PREFECT_API_URL": platform.api},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: speaks_to(following.pid, platform), what="it follows")
        job = platform.submit_job(
            "compress-images/high", {"source": "not-there", "ratio": 0.5}, "x"
        )
        for shown in (lambda: (tmp_path / "out").read_text(), lambda: platform.output):
            wait_until(lambda shown=shown: str(job) in shown(), what="the end is shown")
        following.send_signal(signal.SIGINT)
        assert following.wait(240) == 0, (tmp_path / "out").read_text()
    finally:
        following.kill()
        following.wait()
    wait_until(
        lambda: str(job) in platform.command("prefecture", "inbox", "--limit", "50").stdout,
        what="the end is in the inbox",
    )
    refused = platform.command("prefecture", "inbox", "--limit", "-1")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "prefecture: --limit -1: use 0 or more"
