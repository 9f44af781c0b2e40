"""f, h: seconds from Completed to a notification, and from a crash to the next attempt."""

import asyncio
import base64
import time
from uuid import UUID

import docker
import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.suite.report import OURS, Row
from benchmarks.suite.server import Server
from benchmarks.suite.sides import PrefectSide
from deployments.notifications.ledger import keep_subscribers
from deployments.notifications.subscribers import Subscriber
from tasks.settings import Settings
from tests.support.blocks import save_secret
from tests.support.containers import containers_of
from tests.support.platform import Platform
from tests.support.web.receiver import receiver

_KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_LONG = 10**10  # an upper bound that takes minutes


def notified(platform: Platform, ours: PrefectSide, rounds: int) -> Row:
    """f: seconds from Completed to the receipt of a signed webhook (at-least-once delivery)."""
    found: list[float] = []
    with receiver() as inbox:
        with temporary_settings({PREFECT_API_URL: platform.api}):
            asyncio.run(_subscribe(platform, inbox.url))
        for _ in range(rounds):
            before = len(inbox.requests)
            run = ours.server.make(ours.deployment, ours.parameters)
            ours.server.wait("a webhook", lambda n=before: len(inbox.requests) > n, every=0.01)
            received = time.time()
            found.append(received - ours.server.ended([run])[0].ended)
    return Row("f", "Completed to notification received", "s", {OURS: found})


async def _subscribe(platform: Platform, url: str) -> None:
    await save_secret("key", _KEY)
    to = {"webhook": {"url": url, "secret": "secret/key"}}
    subscriber = Subscriber.model_validate({"name": "bench", "to": to})
    await keep_subscribers(Settings(home=platform.home), [subscriber])


def crashed(platform: Platform, ours: PrefectSide, rounds: int) -> Row:
    """h: seconds from the death of a job's container to Running of the next attempt."""
    found: list[float] = []
    client = docker.from_env()
    parameters = ours.parameters | {"payload": {"upper_bound": _LONG}}
    for _ in range(rounds):
        run = ours.server.make(ours.deployment, parameters)
        ours.server.wait("Running", lambda r=run: _state(ours.server, r) == "RUNNING")
        (found_there,) = containers_of(platform, run)
        client.containers.get(found_there.id).kill()
        died = time.time()
        second = ours.server.wait("another attempt", lambda r=run: _successor(ours.server, r))
        ours.server.wait("Running again", lambda s=second: _state(ours.server, s) == "RUNNING")
        found.append(time.time() - died)
        _cancel(ours.server, second)
    client.close()
    return Row("h", f"crash to the next attempt Running, {platform.pool}", "s", {OURS: found})


def _state(server: Server, run: str) -> str:
    return str(server.ask("GET", f"/flow_runs/{run}")["state_type"])


def _successor(server: Server, run: str) -> str | None:
    body = {"flow_runs": {"idempotency_key": {"any_": [f"requeue:{UUID(run)}:2"]}}}
    found = server.ask("POST", "/flow_runs/filter", body)
    return str(found[0]["id"]) if found else None


def _cancel(server: Server, run: str) -> None:
    body = {"state": {"type": "CANCELLING", "message": "measured"}}
    try:
        server.ask("POST", f"/flow_runs/{run}/set_state", body)
    except httpx.HTTPStatusError as error:
        raise AssertionError(error.response.text) from error
    server.wait("cancelled", lambda: _state(server, run) == "CANCELLED")
