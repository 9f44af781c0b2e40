"""Many jobs: listed page by page, acted on by criteria; and their logs."""

import asyncio
from collections.abc import Generator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deployments.connection import connect
from deployments.gateway.users.tokens import Scope
from deployments.jobs.queries.selection import Selection
from deployments.jobs.queries.walk import Walk
from tests.support.platform import Platform, pause, wait_until
from tests.support.web.events import listening
from tests.support.web.gateway import Gateway, gateway_up

SHORT = {"upper_bound": 100}
QUOTA = 30


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    settings = {"PREFECTURE_GATEWAY_JOBS": str(QUOTA)}
    with gateway_up(process_platform.home, process_platform.api, **settings) as gateway:
        yield gateway


def submit(user: httpx.Client, number: int, tag: str) -> list[str]:
    body = {"task": "find-primes", "results_directory": "many", "tags": [tag]}
    answer = user.post("/jobs/bulk", json=body | {"payloads": [SHORT] * number})
    assert answer.status_code == 201, answer.text
    return answer.json()["jobs"]


def pages(client: httpx.Client, /, **criteria: Any) -> Generator[list[str]]:
    """The jobs of each page of a list."""
    after = ""
    while True:
        answer = client.get("/jobs", params=criteria | {"after": after}).json()
        yield [job["job"] for job in answer["jobs"]]
        after = answer["next"]
        assert answer["is_all"] == (after is None)
        if after is None:
            return


def test_a_list_in_pages_while_jobs_are_submitted(
    gateway: Gateway, process_platform: Platform
) -> None:
    tag = f"pages-{uuid4()}"
    with gateway.user("anna") as anna, pause(process_platform):
        jobs = submit(anna, 7, tag)
        found: list[str] = []
        for page in pages(anna, tag=tag, state="waiting", user="anna", limit=2):
            assert len(page) <= 2
            found += page
            submit(anna, 1, tag)
        assert found == jobs[::-1]
        assert [*pages(anna, tag=tag, user="bob")] == [[]]
        act(anna, "cancel", tag=[tag])


def act(user: httpx.Client, verb: str, **criteria: Any) -> dict[str, Any]:
    """Act on all jobs that meet the criteria."""
    counted = user.post(f"/jobs/{verb}", json=criteria).json()
    assert not counted["done"]
    request = criteria | {"confirm": counted["count"]}
    whole: dict[str, Any] = {"count": counted["count"], "acted": 0, "refused": [], "jobs": []}
    done: dict[str, Any] = {"done": False, "next": None}
    while not done["done"]:
        answer = user.post(f"/jobs/{verb}", json=request | {"next": done["next"] or ""})
        assert answer.is_success, answer.text
        done = answer.json()
        assert done["count"] == counted["count"]
        for name in ("acted", "refused", "jobs"):
            whole[name] += done[name]
    return whole


def test_many_are_counted_and_then_done(gateway: Gateway, process_platform: Platform) -> None:
    tag = f"many-{uuid4()}"
    with gateway.user("anna") as anna, gateway.user("bob") as bob:
        with pause(process_platform):
            jobs = submit(anna, 3, tag)
            counted = anna.post("/jobs/cancel", json={"tag": [tag]}).json()
            assert (counted["count"], counted["done"]) == (3, False)
            assert counted["kinds"] == ["3 find-primes waiting in normal"]
            submit(anna, 1, tag)
            changed = anna.post("/jobs/cancel", json={"tag": [tag], "confirm": 3})
            assert changed.status_code == 409
            assert "4 jobs meet the criteria now, not 3" in changed.json()["detail"]
            assert bob.post("/jobs/cancel", json={"tag": [tag]}).json()["count"] == 0
            assert act(anna, "cancel", tag=[tag])["refused"] == []
            listed = anna.get("/jobs", params={"tag": tag}).json()["jobs"]
            assert {job["state"] for job in listed} == {"cancelled"}
            again = act(anna, "restart", tag=[tag], state=["cancelled"])
            assert len(again["jobs"]) == 4
            assert not {*again["jobs"]} & {*jobs}
            act(anna, "cancel", tag=[tag])
        assert act(anna, "delete", tag=[tag])["count"] == 8
        assert anna.get("/jobs", params={"tag": tag}).json()["jobs"] == []
    assert '"action": "delete_jobs"' in gateway.audit


async def pieces(walk: Walk, tag: str, *, oldest_first: bool) -> list[list[str]]:
    """The jobs of a tag, two at a time."""
    found: list[list[str]] = []
    left: Walk | None = walk
    async with connect() as client:
        while left:
            wanted = Selection(tags=(tag,))
            runs, left = await left.piece(client, wanted, 2, oldest_first=oldest_first)
            found.append([str(run.id) for run in runs])
    return found


def test_what_a_request_has_not_reached_is_done_by_the_next(
    gateway: Gateway, here: Platform
) -> None:
    tag = f"next-{uuid4()}"
    with gateway.user("anna") as anna, pause(here):
        jobs = submit(anna, 5, tag)
        walk = Walk.begin()
        forwards = asyncio.run(pieces(walk, tag, oldest_first=True))
        backwards = asyncio.run(pieces(walk, tag, oldest_first=False))
        assert forwards == [jobs[:2], jobs[2:4], jobs[4:]]
        assert backwards == [jobs[:2:-1], jobs[2:0:-1], jobs[:1]]

        async def first() -> Walk | None:
            async with connect() as client:
                return (await walk.piece(client, Selection(tags=(tag,)), 2, oldest_first=False))[1]

        rest = {"tag": [tag], "confirm": 5, "next": str(asyncio.run(first()))}
        done = anna.post("/jobs/cancel", json=rest).json()
        assert (done["done"], done["acted"], done["next"]) == (True, 3, None)
        states = [anna.get(f"/jobs/{job}").json()["job"]["state"] for job in jobs]
        assert states == ["cancelled"] * 3 + ["waiting"] * 2
        act(anna, "cancel", tag=[tag])
        again = {"tag": [tag], "confirm": 5, "next": str(walk)}
        once = anna.post("/jobs/restart", json=again).json()["jobs"]
        assert len(once) == 5
        assert act(anna, "cancel", jobs=once)["count"] == 5
        # An answer that was lost is asked for again: the new jobs are not run once more.
        assert anna.post("/jobs/restart", json=again).json()["jobs"] == once
        for wrong in ({"next": "x"}, {"next": f"{walk.mark}.x"}):
            assert anna.post("/jobs/cancel", json=rest | wrong).status_code == 422
        act(anna, "delete", tag=[tag])


def test_jobs_are_named_by_their_ids(gateway: Gateway, process_platform: Platform) -> None:
    tag = f"named-{uuid4()}"
    with gateway.user("anna") as anna, gateway.user("bob") as bob, pause(process_platform):
        jobs = submit(anna, 3, tag)
        assert bob.post("/jobs/cancel", json={"jobs": jobs}).json()["count"] == 0
        assert act(anna, "move", jobs=jobs[:2], to="low")["refused"] == []
        assert act(anna, "cancel", jobs=[*jobs[1:], str(uuid4())])["count"] == 2
        states = {job: anna.get(f"/jobs/{job}").json()["job"]["state"] for job in jobs}
        assert [*states.values()] == ["waiting", "cancelled", "cancelled"]
        assert len(act(anna, "restart", jobs=jobs)["jobs"]) == 2
        assert act(anna, "delete", jobs=jobs)["count"] == 2
        both = anna.post("/jobs/cancel", json={"jobs": jobs, "tag": [tag]})
        assert "but not both" in both.json()["detail"]
        act(anna, "cancel", tag=[tag])


def test_many_are_held_moved_and_released(gateway: Gateway, process_platform: Platform) -> None:
    tag = f"held-{uuid4()}"
    with gateway.user("anna") as anna, gateway.user("bob") as bob, pause(process_platform):
        jobs = submit(anna, 2, tag)
        assert bob.post("/jobs/hold", json={"tag": [tag]}).json()["count"] == 0
        assert act(anna, "move", tag=[tag], to="low")["refused"] == []
        moved = anna.get("/jobs", params={"tag": tag, "queue": "low"}).json()["jobs"]
        assert [job["job"] for job in moved] == jobs[::-1], "they have kept ids and order"
        assert act(anna, "hold", tag=[tag], queue="low")["refused"] == []
        held = anna.get("/jobs", params={"tag": tag, "state": "held"}).json()
        assert (held["total"], [job["job"] for job in held["jobs"]]) == (2, jobs[::-1])
        assert anna.get("/jobs", params={"tag": tag, "state": "waiting"}).json()["total"] == 0
        assert act(anna, "release", tag=[tag])["refused"] == []
        waiting = anna.get("/jobs", params={"tag": tag, "state": "waiting"}).json()
        assert (waiting["total"], len(waiting["jobs"])) == (2, 2)
        refused = anna.post(f"/jobs/{jobs[0]}/release").json()["detail"]
        assert refused == f"job {jobs[0]} is waiting: it is not held"
        assert anna.post(f"/jobs/{jobs[0]}/move", json={"queue": "x"}).status_code == 422
        assert bob.post(f"/jobs/{jobs[0]}/hold").status_code == 404
        act(anna, "cancel", tag=[tag])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "by a criterion: state, task, tag"),
        ({"state": ["completed"]}, "a job that is completed is none to cancel"),
        ({"confirm": 3}, "by a criterion"),
        ({"job": "x"}, "job: there is no such field"),
    ],
    ids=str,
)
def test_jobs_that_cannot_be_chosen(gateway: Gateway, body: dict[str, Any], named: str) -> None:
    with gateway.user("milo", Scope.OPERATE) as milo:
        answer = milo.post("/jobs/cancel", json=body)
        assert answer.status_code == 422
        assert named in answer.json()["detail"]


def test_a_log_is_followed_to_the_end_of_its_job(gateway: Gateway) -> None:
    with gateway.user("anna") as anna:
        job = submit(anna, 1, "log")[0]
        path = f"/jobs/{job}/logs"
        with listening(anna, f"{path}?follow=true") as heard:
            heard.wait(lambda heard: heard.is_over, "the end of the log")
        lines = [message.data for message in heard.messages]
        assert {message.event for message in heard.messages} == {"line"}
        assert sorted(map(str, lines)) == sorted(map(str, anna.get(path).json()))
        assert anna.get(path, params={"tail": 2}).json() == anna.get(path).json()[-2:]
        first = heard.messages[0].id
        with listening(anna, f"{path}?follow=true", after=first) as rest:
            rest.wait(lambda heard: heard.is_over, "the end of the log")
        # In another order: by now, the server shows lines that it has shown late in their place.
        assert sorted(map(str, (message.data for message in rest.messages))) == sorted(
            map(str, lines[1:])
        )
        for wrong in ("x", "1.x", "1"):
            assert anna.get(path, params={"after": wrong}).status_code == 422


def test_a_log_of_two_thousand_lines(gateway: Gateway, process_platform: Platform) -> None:
    with gateway.user("anna") as anna:
        job = submit(anna, 1, "log")[0]
        wait_until(
            lambda: anna.get(f"/jobs/{job}").json()["job"]["ended"], what="the job has ended"
        )
        at = "2026-01-01T00:00:0{}Z"  # before all others, and many at the same time
        for start in range(0, 2000, 500):
            records = [
                {
                    "name": "a",
                    "level": 20,
                    "message": str(number),
                    "timestamp": at.format(number // 700),
                    "flow_run_id": job,
                }
                for number in range(start, start + 500)
            ]
            process_platform.rest("POST", "/logs/", records).raise_for_status()

        def read(**tail: int) -> list[str]:
            lines = anna.get(f"/jobs/{job}/logs", params=tail).json()
            return [line["message"] for line in lines]

        posted = {str(number) for number in range(2000)}
        wait_until(lambda: posted <= {*read()}, what="the lines are there")

        def tail_is_the_end() -> bool:
            # The job's own last lines may arrive between the two questions.
            messages = read()
            last = read(tail=len(messages) - 1900)
            assert {*messages[:2000]} == posted
            return last[100:] == messages[2000:] and {*last[:100]} <= posted

        wait_until(tail_is_the_end, what="the tail is the end of the log")


def test_a_user_has_so_many_jobs_at_a_time(gateway: Gateway, process_platform: Platform) -> None:
    tag = f"quota-{uuid4()}"
    body = {"task": "find-primes", "results_directory": "many", "tags": [tag]}

    def ask(user: httpx.Client, number: int, **more: Any) -> httpx.Response:
        return user.post("/jobs/bulk", json=body | {"payloads": [SHORT] * number} | more)

    with gateway.user("mona") as mona, gateway.user("milo") as milo, pause(process_platform):
        assert ask(mona, QUOTA + 1).status_code == 429, "nothing of it is submitted"
        assert ask(mona, QUOTA - 1, key=tag).status_code == 201
        assert ask(mona, QUOTA - 1, key=tag).status_code == 201, "the same call again"
        refused = ask(mona, 2)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["detail"] == (
            f"{QUOTA - 1} jobs of user 'mona' wait or run, and {QUOTA} may: submit fewer, or wait "
            "until some have ended"
        )
        assert ask(milo, 1).status_code == 201, "others have a quota of their own"
        for user in (mona, milo):
            act(user, "cancel", tag=[tag])
        wait_until(lambda: ask(mona, 2).status_code == 201, what="the cancelled ones have ended")
        act(mona, "cancel", tag=[tag])
