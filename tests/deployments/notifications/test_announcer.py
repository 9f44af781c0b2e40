"""The events of jobs, as they arrive at a real server; and the notifier's own command."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.events import Event
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

from deployments.notifications.ledger import open_ledger
from deployments.notifications.notifier import announcer
from deployments.notifications.notifier.announcer import Announcer
from tasks.runtime.events import JobEvent, JobReceived, JobStarted, send_events
from tasks.settings import Settings
from tests.deployments.notifications.services import at_work
from tests.support.outcomes import completed
from tests.support.platform import BIN, Platform, ends_with_us, wait_until
from tests.support.schedules import add_schedule, planned

Told = tuple[JobEvent, UUID, datetime]


@pytest.fixture
async def client(server: Platform) -> AsyncGenerator[PrefectClient]:
    async with get_client() as client:
        yield client


async def events_of(client: PrefectClient, job: UUID, *names: str) -> list[Event]:
    wanted = EventFilter(
        event=EventNameFilter(name=[*names]),
        resource=EventResourceFilter(id=[f"prefecture.job.{job}"]),
    )
    return [*(await client.read_events(wanted, 50)).events]


async def test_an_end_is_one_event_however_often_it_is_sent(
    client: PrefectClient, tmp_path: Path
) -> None:
    end = completed()
    # Two homes, as if the first had been killed before it could note what it had sent.
    for home in ("first", "second"):
        async with open_ledger(Settings(home=tmp_path / home)) as ledger:
            await ledger.record([(end, end.job)])
            async with asyncio.timeout(240), at_work(Announcer(client, ledger)):
                while await ledger.unannounced(10):
                    pass
    (event,) = await events_of(client, end.job, end.name_of_event)
    assert event.id == end.event_id
    assert event.payload == end.model_dump(mode="json")


async def test_what_the_server_may_have_is_not_sent_again_by_the_next_notifier(
    client: PrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, sent, is_sent = completed(), list[UUID](), asyncio.Event()

    async def recorded(client: PrefectClient, events: Iterable[Told]) -> None:
        every = list(events)
        await send_events(client, every)
        sent.extend(event.event_id for event, _, _ in every if event.job == end.job)
        if sent:
            is_sent.set()

    monkeypatch.setattr(announcer, "send_events", recorded)
    async with open_ledger(Settings(home=tmp_path)) as ledger, asyncio.timeout(240):
        async with at_work(Announcer(client, ledger)):
            await ledger.record([(end, end.job)])
            await is_sent.wait()
        # Stopped before the server has written it down; the next one knows nothing of it.
        assert await ledger.unannounced(10) != []
        async with at_work(Announcer(client, ledger)):
            while await ledger.unannounced(10):
                pass
    assert sent == [end.event_id]


async def test_the_story_of_a_job(client: PrefectClient, server: Platform) -> None:
    payload = {"source": "not-there", "ratio": 0.5}
    job = await asyncio.to_thread(server.submit_job, "compress-images/high", payload, "story")
    names = JobReceived.name_of_event, JobStarted.name_of_event, "prefecture.job.failed"
    async with asyncio.timeout(240):
        while len(story := await events_of(client, job, *names)) < len(names):
            pass
    said = {event.event: event.payload for event in story}
    assert set(said) == set(names)
    for payload in said.values():
        assert payload["job"] == str(job)
        assert (payload["task"], payload["results_directory"]) == ("compress-images", "story")
    assert said[JobReceived.name_of_event]["queue"] == "high"
    assert said[JobStarted.name_of_event]["attempt"] == 1
    assert "'not-there'" in said["prefecture.job.failed"]["reason"]


async def test_a_run_that_a_schedule_has_planned_is_received_when_it_is_due(
    client: PrefectClient, server: Platform
) -> None:
    deployment = server.deployment("find-primes/low")
    payload = {"upper_bound": 10}
    parameters = {"payload": payload, "results_directory": "later"}
    schedule = add_schedule(server.api, deployment, parameters=parameters)
    try:
        run, *_ = planned(server.api, deployment)
        later = await asyncio.to_thread(server.submit_job, "find-primes/low", payload, "later")
        async with asyncio.timeout(240):
            while not await events_of(client, later, JobReceived.name_of_event):
                pass
        assert not await events_of(client, UUID(run["id"]), JobReceived.name_of_event)
    finally:
        path = f"/deployments/{deployment}/schedules/{schedule['id']}"
        server.rest("DELETE", path).raise_for_status()


def test_a_second_notifier_waits_for_the_first(server: Platform, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        second = subprocess.Popen(
            ends_with_us(str(BIN / "prefecture"), "notify"),
            env=server.environment | {"PREFECT_API_URL": server.api},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: "another notifier has the home" in log.read_text(), what="it waits")
        second.send_signal(signal.SIGTERM)
        assert second.wait(240) == 0, log.read_text()
    finally:
        second.kill()
        second.wait()
