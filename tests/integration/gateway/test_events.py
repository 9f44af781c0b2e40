"""The changes of jobs, as they happen."""

from collections.abc import Generator
from uuid import uuid4

import httpx
import pytest

from deployments.gateway.users.tokens import Scope
from tests.support.platform import Platform, wait_until
from tests.support.web.events import Heard, listening
from tests.support.web.gateway import Gateway, gateway_up

SHORT, LONG = {"upper_bound": 100}, {"upper_bound": 10**10}


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    with gateway_up(process_platform.home, process_platform.api) as gateway:
        yield gateway


def submit(user: httpx.Client, payload: dict[str, int] = SHORT) -> str:
    body = {"task": "find-primes", "payload": payload, "results_directory": "events"}
    answer = user.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job"])


def has_ended(heard: Heard, job: str) -> bool:
    return any(message.data["outcome"] for message in heard.of(job))


def test_who_hears_of_a_job(gateway: Gateway) -> None:
    with (
        gateway.user("anna") as anna,
        gateway.user("bob") as bob,
        gateway.user("carol", Scope.READ_ALL) as carol,
        listening(anna, "/events") as to_anna,
        listening(bob, "/events") as to_bob,
        listening(carol, "/events") as to_carol,
    ):
        job = submit(anna)
        of_bob = submit(bob)
        for heard in (to_anna, to_carol):
            heard.wait(lambda heard: has_ended(heard, job), "its end")
        to_bob.wait(lambda heard: has_ended(heard, of_bob), "the end of his own")
        assert to_bob.of(job) == []
        assert to_anna.of(of_bob) == []
        assert to_carol.of(of_bob)
        last = to_anna.of(job)[-1].data
        listed = anna.get("/jobs", params={"tag": "user:anna"}).json()["jobs"]
        same = next(each for each in listed if each["job"] == job)
        shared = ("task", "name", "results_directory", "queue", "tags", "state", "attempt")
        assert {name: last[name] for name in shared} == {name: same[name] for name in shared}
        assert (last["outcome"], last["fraction"], last["text"]) == ("completed", 1.0, "")
        assert last["ended"]
        ids = [message.id for message in to_anna.messages]
        assert len(ids) == len({*ids})
        states = to_anna.states(job)
        assert states[-1] == "completed"
        assert sorted(states, key=["waiting", "starting", "running", "completed"].index) == states


def test_a_job_that_shows_its_progress_and_is_cancelled(gateway: Gateway) -> None:
    with gateway.user("anna") as anna:
        job = submit(anna, LONG)
        with listening(anna, f"/jobs/{job}/events") as heard:
            heard.wait(
                lambda heard: any(each.data["fraction"] for each in heard.of(job)), "progress"
            )
            assert "primes" in heard.of(job)[-1].data["text"]
            assert anna.post(f"/jobs/{job}/cancel").is_success
            heard.wait(lambda heard: heard.is_over, "its end")
        assert heard.states(job)[-2:] == ["cancelled", "cancelled"]
        assert [each.data["outcome"] for each in heard.of(job)[-2:]] == [None, "cancelled"]


def test_a_stream_goes_on_where_its_client_was(gateway: Gateway) -> None:
    with gateway.user("anna") as anna:
        job = submit(anna)
        path = f"/jobs/{job}/events"
        with listening(anna, path) as all_:
            all_.wait(lambda heard: heard.is_over, "its end")
        assert all_.states(job)[-1] == "completed"
        with listening(anna, path) as late:
            late.wait(lambda heard: heard.is_over, "its end")
        assert [each.data for each in late.messages] == [all_.messages[-1].data]
        first, rest = all_.messages[0], all_.messages[1:]
        assert rest, "it was heard of before it ended"
        with listening(anna, path, after=first.id) as again:
            again.wait(lambda heard: heard.is_over, "its end")
        assert again.messages == rest
        assert anna.get(path, params={"after": rest[-1].id}).status_code == 204
        with listening(anna, "/events", after=first.id) as missed:
            missed.wait(lambda heard: has_ended(heard, job), "what it has missed")
        assert missed.of(job) == rest


def test_an_unknown_cursor(gateway: Gateway) -> None:
    with gateway.user("anna") as anna:
        for cursor in ("x", "00000000-1", "-", "\N{SUPERSCRIPT TWO}".encode().hex()):
            with listening(anna, "/events", after=cursor) as heard:
                heard.wait_for("reset")
            with listening(anna, "/events", after=heard.last_id) as goes_on:
                # Of the same journal; a job of another test may have changed meanwhile.
                assert goes_on.last_id.partition("-")[0] == heard.last_id.partition("-")[0]
                assert "reset" not in [each.event for each in goes_on.messages]
        job = submit(anna)
        with listening(anna, f"/jobs/{job}/events", after="x") as heard:
            heard.wait(lambda heard: heard.is_over, "its end")
        assert heard.messages[0].event == "reset"
        assert heard.states(job)[-1] == "completed"


def test_a_stream_of_nothing(gateway: Gateway) -> None:
    with (
        gateway.user("anna") as anna,
        gateway.user("bob") as bob,
        gateway.user("glen", Scope.SUBMIT) as glen,
    ):
        job = submit(anna)
        for path in (f"/jobs/{job}/events", f"/jobs/{uuid4()}/events"):
            assert bob.get(path).status_code == 404
        assert glen.get("/events").status_code == 403
        assert anna.get("/jobs/x/events").status_code == 422


@pytest.fixture(scope="module")
def late(
    process_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway]:
    """Another gateway, which knows nothing of what was before, and lets a user have two streams."""
    settings = {"PREFECTURE_GATEWAY_STREAMS": "2"}
    home = tmp_path_factory.mktemp("late")
    with gateway_up(home, process_platform.api, **settings) as gateway:
        yield gateway


def test_who_knows_that_a_job_has_ended_is_not_told_again(gateway: Gateway, late: Gateway) -> None:
    with gateway.user("anna") as anna, late.user("anna") as later:
        with listening(anna, f"/jobs/{submit(anna)}/events") as heard:
            heard.wait(lambda heard: heard.is_over, "its end")
        ended = later.get("/jobs", params={"state": "completed"}).json()["jobs"]
        path = f"/jobs/{ended[-1]['job']}/events"  # the longer ago, the less is known of it
        with listening(later, path) as heard:
            heard.wait(lambda heard: heard.is_over, "its end")
        assert heard.messages[-1].data["outcome"] == "completed"
        assert later.get(path, params={"after": heard.messages[-1].id}).status_code == 204


def test_too_many_streams(late: Gateway) -> None:
    with late.user("anna") as anna, late.user("bob") as bob:
        with listening(anna, "/events"), listening(anna, "/events"):
            refused = anna.get("/events")
            assert refused.status_code == 429
            assert "anna has 2 streams" in refused.json()["detail"]
            with listening(bob, "/events") as heard:
                assert heard.status == 200

        def is_let_in() -> bool:
            with listening(anna, "/events") as heard:
                return heard.status == 200

        wait_until(is_let_in, what="the gateway has noticed that the two have gone")
