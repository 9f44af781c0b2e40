"""Jobs crash, the receiver fails, the notifier is killed: still one notification for each job."""

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Generator
from uuid import UUID

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.notifications.ledger import keep_subscribers
from deployments.notifications.subscribers import Subscriber
from tasks.settings import Settings
from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import Drill
from tests.support.blocks import save_secret
from tests.support.platform import Platform, wait_until
from tests.support.processes import notifier
from tests.support.web.receiver import Received, Receiver, receiver

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
FAILS = 0.2  # of the requests to the receiver
CRASHES = 0.1  # of the first attempts


@pytest.fixture
def listener() -> Generator[Receiver]:
    with receiver() as running:
        yield running


def subscribe(drill: Drill, listener: Receiver) -> None:
    """Subscribe the receiver, and nobody else, to the drill's jobs."""
    with temporary_settings({PREFECT_API_URL: drill.platform.api}):
        asyncio.run(save_secret("key", KEY))
    to = {"webhook": {"url": listener.url, "secret": "secret/key"}}
    wanted = {"name": "all", "jobs": {"tags": [drill.name]}, "to": to}
    subscriber = Subscriber.model_validate(wanted)
    asyncio.run(keep_subscribers(Settings(home=drill.platform.home), [subscriber]))


class _Unsteady:
    """Takes most of the requests, and notes which."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._random = random.Random(1)
        self.taken: list[Received] = []

    def __call__(self, request: Received) -> int:
        if self._random.random() < self._share:
            return 500
        self.taken.append(request)
        return 204

    def ends(self) -> Counter[UUID]:
        """How often each end of a job was taken."""
        return Counter(UUID(json.loads(request.body)["data"]["job"]) for request in self.taken)


@pytest.mark.timeout(1800)  # for 200 on a slow machine
@pytest.mark.parametrize("jobs", [10, long(200)])
def test_one_for_each_job(process_trials: Platform, listener: Receiver, jobs: int) -> None:
    listener.answer = unsteady = _Unsteady(FAILS)
    drill = Drill(process_trials, f"{jobs} jobs are notified")
    subscribe(drill, listener)
    crashes = round(jobs * CRASHES)
    drill.submit(crashes, fault="kill")
    drill.submit(jobs - crashes)
    wait_until(lambda: len(unsteady.taken) >= jobs, 60 + 10 * jobs, "every end is taken")
    assert not drill.unfinished()
    assert set(unsteady.ends()) == set(drill.jobs)
    assert len(unsteady.taken) == jobs, "one for each"
    assert len({request.headers["webhook-id"] for request in unsteady.taken}) == jobs
    crashed = list(drill.runs(type={"any_": ["CRASHED"]}))
    assert len(crashed) == crashes
    ends = [json.loads(request.body)["data"] for request in unsteady.taken]
    assert Counter(end["attempts"] for end in ends) == {1: jobs - crashes, 2: crashes}
    assert {end["outcome"] for end in ends} == {"completed"}


@pytest.mark.thorough
def test_the_notifier_is_killed_in_the_middle(process_trials: Platform, listener: Receiver) -> None:
    taken = _Unsteady(0.0)
    listener.answer = lambda _: 500
    drill = Drill(process_trials, "SIGKILL to the notifier")
    subscribe(drill, listener)
    (first,) = drill.submit(1)
    wait_until(lambda: listener.requests, what="it delivers")
    notifier(process_trials).kill()
    drill.submit(3)
    wait_until(lambda: not drill.unfinished(), what="the jobs have ended")
    notifier(process_trials).kill()
    listener.answer = taken
    wait_until(lambda: set(taken.ends()) == set(drill.jobs), what="every end is taken")
    tried = [r for r in listener.requests if json.loads(r.body)["data"]["job"] == str(first)]
    assert len({request.headers["webhook-id"] for request in tried}) == 1
    # At least once: what was taken just when it was killed may come again, with the same id.
    assert len({request.headers["webhook-id"] for request in taken.taken}) == 4
