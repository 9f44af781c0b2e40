"""Schedules of users of the gateway: who may have which, and what they submit when they are due."""

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest

from deployments.connection import connect
from deployments.gateway.app import create_app
from deployments.gateway.schedules.kept import Schedules
from deployments.gateway.schedules.requests import ScheduleRequest
from deployments.gateway.schedules.runner import Runner
from deployments.gateway.users.audit import AuditLog
from deployments.gateway.users.tokens import Scope, Tokens
from deployments.jobs.queries.listing import list_jobs
from deployments.jobs.queries.selection import Selection
from tasks.settings import get_settings
from tests.support.platform import Platform, pause, wait_until
from tests.support.web.gateway import Gateway, gateway_up
from tests.support.web.relay import relay

YEARLY = "0 0 1 1 *"
PRIMES = {"task": "find-primes", "payload": {"upper_bound": 100}, "results_directory": "recurring"}
MOST = 3


@pytest.fixture(scope="module")
def gateway(
    process_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway]:
    # A home of its own, so that no other gateway submits what is due in this one.
    home = tmp_path_factory.mktemp("schedules")
    bounds = {"PREFECTURE_GATEWAY_SCHEDULES": str(MOST), "PREFECTURE_GATEWAY_JOBS": "1"}
    with gateway_up(home, process_platform.api, **bounds) as gateway:
        yield gateway


def create(user: httpx.Client, name: str, **more: Any) -> UUID:
    answer = user.post("/schedules", json=PRIMES | {"name": name, "cron": YEARLY} | more)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["schedule"])


def problem(answer: httpx.Response, status: int) -> str:
    """The line of a refusal."""
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert "\n" not in detail
    return detail


def let_be_due(gateway: Gateway, schedule: UUID, **more: Any) -> None:
    """Put a schedule back to before its last due time, which is dealt with anew."""
    kept = Schedules(gateway.home, MOST)
    kept.change({schedule: {"done": datetime.now(UTC) - timedelta(hours=3), **more}})


def an_hour_ago() -> str:
    """A cron line with one time in the last three hours."""
    at = datetime.now(UTC) - timedelta(hours=1)
    return f"{at.minute} {at.hour} * * *"


def dealt_with(user: httpx.Client, gateway: Gateway, schedule: UUID) -> dict[str, Any]:
    """The schedule, once nothing of it is due."""
    before = datetime.now(UTC) - timedelta(hours=1)

    def is_done() -> bool:
        found = Schedules(gateway.home, MOST).find(schedule)
        return found is not None and found.done > before

    wait_until(is_done, what="the due time is dealt with")
    return user.get(f"/schedules/{schedule}").json()


def test_a_due_time_has_one_job(gateway: Gateway, process_platform: Platform) -> None:
    with gateway.user("tess") as tess:
        schedule = create(tess, "hourly", cron=an_hour_ago(), tags=["mine"])
        assert tess.get(f"/schedules/{schedule}").json()["last_jobs"] == []
        with pause(process_platform):  # the job waits, so that a second one would be too many
            let_be_due(gateway, schedule)
            found = dealt_with(tess, gateway, schedule)
            assert found["last_error"] is None
            (listed,) = found["last_jobs"]
            # As after the death of a gateway that had not noted it.
            let_be_due(gateway, schedule)
            again = dealt_with(tess, gateway, schedule)
            assert again["last_error"] is None
            assert [each["job"] for each in again["last_jobs"]] == [listed["job"]]
            other = create(tess, "too-many", cron=an_hour_ago())
            let_be_due(gateway, other)
            refused = dealt_with(tess, gateway, other)
            assert "1 jobs of user 'tess' wait or run" in refused["last_error"]["reason"]
            assert refused["last_jobs"] == []
        process_platform.completed(UUID(listed["job"]), "recurring")
        run = process_platform.run(UUID(listed["job"]))
        assert {"user:tess", "schedule:hourly", "mine"} <= {*run["tags"]}
        assert run["name"] == "hourly"
        assert len(found["next"]) == 3
        for each in (schedule, other):
            tess.delete(f"/schedules/{each}").raise_for_status()
        assert tess.get(f"/jobs/{listed['job']}").json()["job"]["state"] == "completed"
    lines = [json.loads(line) for line in gateway.audit.splitlines()]
    done = [
        (line["action"], line["status"]) for line in lines if line.get("schedule") == str(other)
    ]
    assert done == [("create_schedule", 201), ("delete_schedule", 200)]
    assert ("run_schedule", "tess", [listed["job"]]) in [
        (line["action"], line["user"], line["jobs"]) for line in lines
    ]


def test_what_is_not_submitted_at_its_time_says_why(gateway: Gateway) -> None:
    with gateway.user("ben") as ben:
        name = "a/b.csv"
        ben.put(f"/inputs/{name}", content=b"1\n").raise_for_status()
        source = {"source": f"users/ben/{name}"}
        schedule = create(ben, "means", cron=an_hour_ago(), task="average-files", payload=source)
        ben.delete(f"/inputs/{name}").raise_for_status()
        let_be_due(gateway, schedule)
        found = dealt_with(ben, gateway, schedule)
        assert "names no file that is there" in found["last_error"]["reason"]
        (listed,) = ben.get("/schedules").json()
        assert listed["last_error"] == found["last_error"]
        ago = datetime.now(UTC) - timedelta(days=10)
        missed = create(ben, "missed", cron=f"0 0 {ago.day} {ago.month} *")
        let_be_due(gateway, missed, done=ago - timedelta(days=1))
        found = dealt_with(ben, gateway, missed)
        assert "away for more than a day" in found["last_error"]["reason"]
        assert found["last_jobs"] == []
        Tokens(gateway.home).revoke("ben")
        let_be_due(gateway, schedule)
        with gateway.user("op", Scope.OPERATE) as operator:
            found = dealt_with(operator, gateway, schedule)
            assert "is revoked" in found["last_error"]["reason"]
    with gateway.user("ben") as ben:
        ben.post(f"/schedules/{schedule}/resume").raise_for_status()
        let_be_due(gateway, schedule)
        found = dealt_with(ben, gateway, schedule)
        assert "names no file that is there" in found["last_error"]["reason"]
        for each in (schedule, missed):
            ben.delete(f"/schedules/{each}").raise_for_status()


def test_a_paused_schedule_submits_nothing(gateway: Gateway) -> None:
    with gateway.user("cleo") as cleo:
        schedule = create(cleo, "paused", cron=an_hour_ago())
        cleo.post(f"/schedules/{schedule}/pause").raise_for_status()
        let_be_due(gateway, schedule)
        found = cleo.get(f"/schedules/{schedule}").json()
        assert (found["active"], found["next"]) == (False, [])
        cleo.post(f"/schedules/{schedule}/resume").raise_for_status()
        found = dealt_with(cleo, gateway, schedule)
        assert found["active"]
        assert found["last_jobs"] == []
        cleo.delete(f"/schedules/{schedule}").raise_for_status()


# What is sent instead, and the line of the refusal.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"cron": "0 0 30 2 *"}, "cron: '0 0 30 2 *' has no time"),
    ({"cron": "* * * * * *"}, "is no cron line of five fields"),
    ({"cron": "soon"}, "is no cron line"),
    ({"timezone": "Mars"}, "timezone: 'Mars' is no time zone"),
    ({"timezone": ""}, "timezone: it is empty"),
    ({"payload": {"upper_bound": 1}}, "payload.upper_bound"),
    ({"payload": {"upper_bound": 100, "start": "2999-01-01T00:00:00Z"}}, "payload.start: the cron"),
    ({"payload": {"upper_bound": "9" * 70_000}}, "65,536 may be in a schedule"),
    ({"task": "nothing"}, "there is no compute task 'nothing'"),
    ({"name": "No Name"}, "name: 'No Name' is no name for a schedule"),
    ({"tags": ["user:bob"]}, "is set by the gateway"),
    ({"results_directory": "../x"}, "is not a results directory"),
    ({"key": "one"}, "key: there is no such field here"),
    ({"after": ["one"]}, "after: there is no such field here"),
]


def test_what_cannot_be_submitted_is_refused_when_it_is_created(gateway: Gateway) -> None:
    with gateway.user("wanda") as wanda:
        for wrong, line in WRONG:
            body = PRIMES | {"name": "wrong", "cron": YEARLY} | wrong
            assert line in problem(wanda.post("/schedules", json=body), 422)
        assert wanda.get("/schedules").json() == []


def test_schedules_are_their_users_own(gateway: Gateway) -> None:
    with (
        gateway.user("emil") as emil,
        gateway.user("quentin") as quentin,
        gateway.user("ugo", Scope.READ_OWN) as reader,
        gateway.user("op", Scope.OPERATE) as operator,
    ):
        own = [create(emil, f"number-{number}") for number in range(MOST)]
        assert create(emil, "number-0") == own[0]  # the answer to the first may have been lost
        body = PRIMES | {"name": "number-0", "cron": "0 0 2 1 *"}
        assert "there is a schedule 'number-0'" in problem(emil.post("/schedules", json=body), 422)
        body["name"] = "one-more"
        assert "3 may be: remove one" in problem(emil.post("/schedules", json=body), 409)
        assert create(quentin, "number-0") not in own
        problem(reader.post("/schedules", json=body), 403)
        at = f"/schedules/{own[0]}"
        for answer in (
            quentin.get(at),
            quentin.post(f"{at}/pause"),
            quentin.post(f"{at}/resume"),
            quentin.delete(at),
        ):
            assert "there is no schedule" in problem(answer, 404)
        problem(quentin.get(f"/schedules/{uuid4()}"), 404)
        assert [each["name"] for each in quentin.get("/schedules").json()] == ["number-0"]
        listed = operator.get("/schedules").json()
        users = [each["user"] for each in listed if each["name"] == "number-0"]
        assert users == ["emil", "quentin"]
        operator.post(f"{at}/pause").raise_for_status()
        assert not emil.get(at).json()["active"]
        for each in own:
            emil.delete(f"/schedules/{each}").raise_for_status()
        assert emil.get("/schedules").json() == []


async def test_what_is_due_while_the_server_is_away_is_submitted_later(
    here: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = get_settings().model_copy(update={"home": tmp_path})
    app, tokens, kept = create_app(settings), Tokens(tmp_path), Schedules(tmp_path, MOST)
    found = tokens.find(tokens.add("vito"))
    assert found is not None
    away = ScheduleRequest.model_validate(PRIMES | {"cron": an_hour_ago()}).schedule(found)
    before = datetime.now(UTC) - timedelta(hours=3)
    kept.add(away.model_copy(update={"done": before}))
    with relay(here.port) as way:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{way.port}/api")
        async with connect(retries=0) as client:
            runner = Runner(app, client, tmp_path, tokens, AuditLog(tmp_path / "audit.jsonl"))
            way.cut()
            with pytest.raises(httpx.TransportError):
                await runner.look()
            (same,) = kept.all()
            assert (same.done, same.failure) == (before, None)
            way.mend()
            await runner.look()
            (same,) = kept.all()
            assert same.done > before
            assert same.failure is None
            assert len((await list_jobs(client, Selection(tags=away.tags))).jobs) == 1


@pytest.mark.thorough
def test_another_gateway_goes_on_when_the_first_is_killed(
    process_platform: Platform, tmp_path: Path
) -> None:
    with (
        relay(process_platform.port) as way,
        gateway_up(tmp_path, f"http://127.0.0.1:{way.port}/api") as first,
        gateway_up(tmp_path, process_platform.api) as second,
        second.user("xaver") as xaver,
    ):
        schedule = create(xaver, "killed", cron=an_hour_ago())
        way.cut()  # so that the first one, which submits, has not done so when it is killed
        let_be_due(second, schedule)
        psutil.Process(first.process.pid).kill()
        assert len(dealt_with(xaver, second, schedule)["last_jobs"]) == 1
