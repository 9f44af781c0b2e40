"""Two API servers and two hosts: a part that all need is away for a while, or a host is cut off.

No healthy job crashes, none is lost or doubled, and the servers keep to the order of the queues.
"""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.notifications.ledger import keep_subscribers, open_ledger
from deployments.notifications.subscribers import Subscriber
from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import Drill, rest
from tests.chaos.harness.platforms import deploy_trial
from tests.chaos.harness.results import publishers
from tests.chaos.harness.verdict import Check
from tests.support.blocks import save_secret
from tests.support.platform import PATIENCE, wait_until
from tests.support.session.environment import PASSWORD
from tests.support.several.topology import HOSTS, Topology, topology
from tests.support.web.receiver import Receiver, receiver

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SETTINGS = {"PREFECTURE_REQUEUE_BACKOFF": "1", "PREFECTURE_ALLOW_PRIVATE_WEBHOOKS": "true"}
# A machine with much else to do takes minutes to start a job, which then is not lost.
PATIENT = {"PREFECTURE_PENDING_LIMIT": "900", "PREFECTURE_AGENT_TIMEOUT": "300"}
SHORT = 8.0  # seconds
LONG = 60.0
MANY = 500  # jobs that one request makes
MOMENT = 10.0  # seconds, below the 20 s after which a host is lost
HERE, ELSEWHERE = HOSTS
FEW = 6  # jobs, where the time is short
WAITS = "another notifier has the database: waiting until it is gone"
QUEUES = ("high", "normal", "low")


@pytest.fixture(scope="module")
def several(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Topology]:
    """Two API servers, two hosts, and the rest."""
    settings = SETTINGS if request.config.getoption("--chaos") else SETTINGS | PATIENT
    with topology(tmp_path_factory.mktemp("several"), settings) as running:
        deploy_trial(running.platform)
        yield running


@pytest.fixture
def listener() -> Generator[Receiver]:
    with receiver() as running:
        yield running


def subscribe(several: Topology, drill: Drill, listener: Receiver) -> None:
    with temporary_settings({PREFECT_API_URL: drill.platform.api}):
        asyncio.run(save_secret("key", KEY))
    to = {"webhook": {"url": listener.url, "secret": "secret/key"}}
    wanted = {"name": "all", "jobs": {"tags": [drill.name]}, "to": to}
    subscriber = Subscriber.model_validate(wanted)
    asyncio.run(keep_subscribers(several.settings, [subscriber]))


def fill(several: Topology, pool: str) -> str:
    """Make a pool that no host serves, with many runs in `low` and one in `high`. Returns the
    latter's id."""
    flow = rest(several.platform, "POST", "/flows/", {"name": pool})["id"]
    rest(several.platform, "POST", "/work_pools/", {"name": pool, "type": "process"})
    made: list[str] = []
    for priority, (queue, count) in enumerate({"high": 1, "low": MANY}.items(), 1):
        body: dict[str, Any] = {"name": queue, "priority": priority}
        rest(several.platform, "POST", f"/work_pools/{pool}/queues", body)
        body = {"name": queue, "flow_id": flow, "work_pool_name": pool, "work_queue_name": queue}
        path = f"/deployments/{rest(several.platform, 'POST', '/deployments/', body)['id']}"
        keys = (f"{queue} {number}" for number in range(count))
        jobs: list[Any] = [{"parameters": {}, "idempotency_key": key} for key in keys]
        made += rest(several.platform, "POST", f"{path}/create_jobs", {"jobs": jobs})
    return made[0]


async def look(several: Topology, pool: str, times: int) -> list[list[str]]:
    """Ask all API servers for the first run in a pool's queues, all at once. Returns the ids that
    each of them answers."""
    body = {"limit": 1, "scheduled_before": datetime.now(UTC).isoformat()}
    path = f"/work_pools/{pool}/get_scheduled_flow_runs"
    user, _, password = PASSWORD.partition(":")
    async with httpx.AsyncClient(auth=(user, password), timeout=PATIENCE) as client:
        asked = [
            client.post(f"{api}{path}", json=body) for _ in range(times) for api in several.servers
        ]
        answers = await asyncio.gather(*asked)
    return [[one["flow_run"]["id"] for one in answer.json()] for answer in answers]


async def is_recorded(several: Topology) -> bool:
    """Whether the ledger has the results of all deliveries that are due."""
    async with open_ledger(several.settings) as ledger:
        return not await ledger.due("all", 1)


def told(listener: Receiver) -> Counter[UUID]:
    """How often each job's end was notified."""
    return Counter(UUID(json.loads(request.body)["data"]["job"]) for request in listener.requests)


@pytest.mark.thorough
def test_looks_at_two_servers_keep_to_the_order(several: Topology) -> None:
    first = fill(several, "order")
    found = asyncio.run(look(several, "order", 32))
    assert [ids for ids in found if ids != [first]] == []


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [SHORT, long(LONG)])
@pytest.mark.parametrize("name", ["redis", "server-1", "postgres"])
def test_away(
    several: Topology,
    listener: Receiver,
    check: Check,
    count: int,
    name: str,
    seconds: float,
) -> None:
    drill = Drill(several.platform, f"{name} away {seconds:.0f} s")
    subscribe(several, drill, listener)
    held = drill.submit(2, gate="middle")
    jobs = count if seconds == LONG else min(count, FEW)
    for place in range(jobs - len(held)):
        drill.submit(1, QUEUES[place % len(QUEUES)], hold=2)
    for job in held:
        drill.wait_at("middle", {job})
    several[name].kill()
    began = monotonic()
    drill.release(held[0])
    wait_until(lambda: monotonic() > began + seconds, what="the time is over")
    several[name].start()
    several[name].wait()
    drill.release(held[1])
    row = check(drill, timeout=240)
    assert row.requeued == 0, "a healthy job crashed"
    assert several.gone() == []
    wait_until(lambda: set(told(listener)) == set(drill.jobs), what="every end is notified")
    assert set(told(listener).values()) == {1}


@pytest.mark.thorough
def test_another_notifier_takes_over(several: Topology, listener: Receiver) -> None:
    notifiers = [several["notifier-1"], several["notifier-2"]]
    waiting = wait_until(
        lambda: [one for one in notifiers if one.end_of_log().endswith(WAITS)], what="one waits"
    )
    (leader,) = (one for one in notifiers if one not in waiting)
    drill = Drill(several.platform, "SIGKILL to a notifier")
    subscribe(several, drill, listener)
    drill.submit(1)
    wait_until(lambda: len(listener.requests) == 1, what="the first notifies")
    # A notifier killed before it has recorded an answer notifies again.
    wait_until(lambda: asyncio.run(is_recorded(several)), what="the first has recorded it")
    leader.kill()
    drill.submit(3)
    wait_until(lambda: set(told(listener)) == set(drill.jobs), what="the second notifies")
    leader.start()
    wait_until(lambda: leader.end_of_log().endswith(WAITS), what="the first waits")
    assert set(told(listener).values()) == {1}


def processes_of(run: UUID) -> list[psutil.Process]:
    """The processes of an attempt, on whichever host."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run):
                found.append(process)
    return found


def prefecture(several: Topology, *words: str) -> None:
    done = several.platform.command("prefecture", *words)
    assert done.returncode == 0, done.stderr


@contextmanager
def only_host(several: Topology, other: str) -> Generator[None]:
    """While the block runs, the other host takes no job."""
    prefecture(several, "drain", other)
    try:
        yield
    finally:
        prefecture(several, "drain", other, "--undo")


@pytest.mark.thorough
def test_a_job_of_a_host_has_no_password(several: Topology, check: Check) -> None:
    """Nor that of a database: with a token it reports its states to the API."""
    drill = Drill(several.platform, "no password for jobs")
    (job,) = drill.submit(1, gate="middle")
    drill.wait_at("middle", {job})
    (process,) = processes_of(job)
    has = process.environ()
    secrets = (PASSWORD.partition(":")[2], "postgresql://", "redis://")
    assert [name for name in has if any(secret in has[name] for secret in secrets)] == []
    drill.release(job)
    check(drill)


@pytest.mark.thorough
def test_a_host_is_cut_off_for_a_moment(several: Topology, check: Check) -> None:
    drill = Drill(several.platform, "host cut off for a moment")
    held = drill.submit(4, gate="middle")  # as many as there are slots
    for job in held:
        drill.wait_at("middle", {job})
    with several.hosts[HERE].cut_off():
        began = monotonic()
        for job in held:
            drill.release(job)
        wait_until(lambda: monotonic() > began + MOMENT, what="the time is over")
    row = check(drill, timeout=240)
    assert row.requeued == 0, "a healthy job crashed"
    assert several.gone() == []


@pytest.mark.chaos
def test_a_host_is_cut_off_and_back(several: Topology, listener: Receiver, check: Check) -> None:
    drill = Drill(several.platform, "host cut off and back")
    subscribe(several, drill, listener)
    with only_host(several, ELSEWHERE):
        (working,) = drill.submit(1, gate="middle")
        (publishing,) = drill.submit(1, gate="publishing")
        drill.wait_at("middle", {working})
        drill.wait_at("publishing", {publishing})
    with several.hosts[HERE].cut_off():
        wait_until(lambda: not drill.unfinished(), what="both have run on the other host")
        assert all(processes_of(job) for job in drill.jobs), "the old attempts go on"
        drill.release(publishing)
    for job in drill.jobs:
        wait_until(lambda job=job: not processes_of(job), what="the old attempt is ended")
    with only_host(several, ELSEWHERE):
        (new,) = drill.submit(1)
        run = several.platform.ended(new)
    assert (run["state_type"], run["labels"]["prefect.worker.name"]) == ("COMPLETED", HERE)
    row = check(drill)
    assert row.requeued == 2
    for job in (working, publishing):
        (first, second) = drill.attempts()[job]
        assert first["state"]["message"] == "lost: its host is gone"
        assert publishers(several.platform.results, job) == {second["id"]}
    assert several.gone() == []
    wait_until(lambda: told(listener).keys() == drill.jobs.keys(), what="all are notified")
    wait_until(lambda: asyncio.run(is_recorded(several)), what="their deliveries are recorded")
    assert set(told(listener).values()) == {1}
