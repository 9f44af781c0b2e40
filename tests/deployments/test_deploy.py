"""Deployments brought up to date on a real server: what users have added to them stays."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from prefect import Flow, flow, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.deploy import deploy
from deployments.program import Deployment
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tests.support.platform import Platform
from tests.support.schedules import add_schedule, planned, schedules

PULL = [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}]
HOURLY = {"cron": "3 * * * *", "timezone": "UTC", "slug": "prefecture-hour"}
DAILY = {"cron": "4 5 * * *", "timezone": "UTC", "slug": "prefecture-day"}


@flow
async def sums(payload: int = 0) -> None: ...


class Tree:
    """A deployment of a flow of its own, declared again and again."""

    def __init__(self, platform: Platform) -> None:
        self.api = platform.api
        self.flow: Flow[..., Any] = sums.with_options(name=f"sums-{uuid4().hex[:8]}")
        self._declared = Deployment(
            flow=self.flow,
            name="normal",
            entrypoint="flows/sums.py:sums",
            description="Sums.",
            tags=["numbers"],
            queue="normal",
            pull_steps=PULL,
        )
        self.id = ""

    async def declare(self, *, active: bool = True, **changes: Any) -> dict[str, Any]:
        """Deploy it, as it is declared now. Returns what the server has."""
        self._declared = replace(self._declared, **changes)
        with temporary_settings({PREFECT_API_URL: self.api}):
            async with get_client() as client:
                await deploy(client, [self._declared], Pool.PROCESS, None, schedules=active)
                found = await client.read_deployment_by_name(
                    f"{self.flow.name}/{self._declared.name}"
                )
        self.id = str(found.id)
        return found.model_dump()


@pytest.fixture
def tree(process_platform: Platform) -> Generator[Tree]:
    tree = Tree(process_platform)
    yield tree
    process_platform.rest("DELETE", f"/deployments/{tree.id}")


async def test_what_is_the_same_is_not_written(tree: Tree) -> None:
    first = await tree.declare(schedules=[HOURLY], tags=["numbers", "exact"])
    before, runs = schedules(tree.api, tree.id), planned(tree.api, tree.id)
    assert (await tree.declare())["updated"] == first["updated"]
    assert (await tree.declare(tags=["exact", "numbers"]))["updated"] == first["updated"]
    assert schedules(tree.api, tree.id) == before
    after = planned(tree.api, tree.id)  # and perhaps what the server has planned meanwhile
    assert [run for run in runs if run not in after] == []


async def test_what_differs_is_written(tree: Tree) -> None:
    await tree.declare()
    found = await tree.declare(description="Exact sums.", tags=["exact"])
    assert (found["description"], found["tags"]) == ("Exact sums.", ["exact"])
    assert (found["work_pool_name"], found["work_queue_name"]) == ("process", "normal")
    assert found["pull_steps"] == PULL


async def test_a_users_schedules_and_their_runs_stay(tree: Tree) -> None:
    await tree.declare()
    add_schedule(tree.api, tree.id, slug="mine", parameters={"payload": 7})
    add_schedule(tree.api, tree.id, active=False, parameters={"payload": 8})
    before, runs = schedules(tree.api, tree.id), planned(tree.api, tree.id)
    assert [run["parameters"] for run in runs] == [{"payload": 7}] * 3
    await tree.declare()
    assert (schedules(tree.api, tree.id), planned(tree.api, tree.id)) == (before, runs)

    # Where the deployment itself changes, its runs are planned anew: with what it is now.
    await tree.declare(tags=["exact"])
    assert schedules(tree.api, tree.id) == before
    anew = planned(tree.api, tree.id)
    times = [run["expected_start_time"] for run in runs]
    assert [run["expected_start_time"] for run in anew] == times
    assert all({"exact"} <= {*run["tags"]} for run in anew)
    assert [run["parameters"] for run in anew] == [{"payload": 7}] * 3


async def test_a_paused_deployment_stays_paused(tree: Tree, process_platform: Platform) -> None:
    await tree.declare()
    process_platform.rest("PATCH", f"/deployments/{tree.id}", {"paused": True}).raise_for_status()
    before = add_schedule(tree.api, tree.id, slug="mine")
    found = await tree.declare(description="Exact sums.")
    assert found["paused"]
    assert [each["id"] for each in schedules(tree.api, tree.id)] == [before["id"]]


async def test_our_own_schedules_are_as_declared(tree: Tree) -> None:
    await tree.declare(schedules=[HOURLY, DAILY])
    mine = add_schedule(tree.api, tree.id, parameters={"payload": 7})["id"]

    def crons() -> list[tuple[str, bool]]:
        own = [each for each in schedules(tree.api, tree.id) if each["id"] != mine]
        return sorted((each["schedule"]["cron"], each["active"]) for each in own)

    assert crons() == [(HOURLY["cron"], True), (DAILY["cron"], True)]
    await tree.declare(schedules=[DAILY | {"cron": "6 7 * * *"}], active=False)
    assert crons() == [("6 7 * * *", False)]
    await tree.declare(schedules=[])
    assert crons() == []
    assert [run["parameters"] for run in planned(tree.api, tree.id)] == [{"payload": 7}] * 3


async def test_schedules_of_earlier_versions_are_replaced(tree: Tree) -> None:
    await tree.declare()
    former = {"cron": HOURLY["cron"], "timezone": "UTC"}  # without a slug
    add_schedule(tree.api, tree.id, schedule=former)
    add_schedule(tree.api, tree.id, schedule=former, parameters={"payload": 7})
    await tree.declare(schedules=[HOURLY])
    found = [(each["slug"], each["parameters"]) for each in schedules(tree.api, tree.id)]
    assert sorted(found, key=str) == [("prefecture-hour", {}), (None, {"payload": 7})]


async def test_a_deployment_under_its_former_name_is_removed(
    tree: Tree, process_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tree.declare(schedules=[HOURLY])
    former = tree.id
    monkeypatch.setattr("deployments.deploy._RENAMED", {tree.flow.name: "normal"})
    await tree.declare(name="parts")
    assert process_platform.rest("GET", f"/deployments/{former}").status_code == 404
    assert process_platform.rest("GET", f"/deployments/{tree.id}").status_code == 200


@pytest.mark.parametrize("new", [True, False])
async def test_what_the_server_refuses_is_named(tree: Tree, new: bool) -> None:
    if not new:
        await tree.declare()
    with pytest.raises(OperatorError, match=r"the server refuses deployment sums-\w+/normal: "):
        await tree.declare(job_variables={"max_duration": "x"})
