"""What users of the gateway can do, each with a token, and what they cannot."""

import asyncio
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Generator
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from deployments.gateway.users.tokens import Scope, Tokens
from tasks.errors import InvalidPayload
from tests.support.platform import Platform, pause, wait_until
from tests.support.session.tiers import thorough
from tests.support.web.gateway import Gateway, gateway_up

SHORT, LONG = {"upper_bound": 100}, {"upper_bound": 10**10}


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    with gateway_up(process_platform.home, process_platform.api) as gateway:
        yield gateway


def submit(user: httpx.Client, payload: dict[str, int] = SHORT, **more: Any) -> UUID:
    body = {"task": "find-primes", "payload": payload, "results_directory": "gateway"}
    answer = user.post("/jobs", json=body | more)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["job"])


def problem(answer: httpx.Response, status: int) -> str:
    """The line of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert "\n" not in detail
    return detail


def test_a_job_from_its_submission_to_its_files(
    gateway: Gateway, process_platform: Platform
) -> None:
    with gateway.user("anna") as anna:
        assert anna.get("/me").json()["scopes"] == ["submit", "read-own"]
        tasks = {each["name"]: each for each in anna.get("/tasks").json()}
        assert tasks["find-primes"]["example"]
        job = submit(anna, tags=["first"], name="the-first")
        process_platform.completed(job, "gateway")
        run = process_platform.run(job)
        assert {"first", "user:anna"} <= {*run["tags"]}
        assert run["name"] == "the-first"
        assert anna.get(f"/jobs/{job}").json()["job"]["state"] == "completed"
        times = {"since": "2026-01-01", "until": "2999-01-01T00:00:00Z"}
        where = {"tag": "first", "directory": "gateway"} | times
        listed = anna.get("/jobs", params=where).json()
        assert [each["job"] for each in listed["jobs"]] == [str(job)]
        wait_until(lambda: anna.get(f"/jobs/{job}/logs").json(), what="its log")
        manifest = anna.get(f"/jobs/{job}/result").json()
        file = manifest["files"][0]
        address = f"/jobs/{job}/result/{file['path']}"
        whole = anna.get(address)
        assert hashlib.sha256(whole.content).hexdigest() == file["sha256"]
        assert whole.headers["content-disposition"].startswith("attachment")
        assert whole.headers["content-security-policy"] == "sandbox"
        part = anna.get(address, headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, whole.content[4:8])
        same = anna.get(address, headers={"If-None-Match": f"W/{whole.headers['etag']}"})
        assert (same.status_code, same.content) == (304, b"")
        archive = anna.get(f"/jobs/{job}/result.zip")
        for path, got in ((address, whole), (f"/jobs/{job}/result.zip", archive)):
            head = anna.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]
        assert int(archive.headers["content-length"]) == len(archive.content)
        with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
            assert opened.namelist() == [file["path"], "manifest.json"]
            assert opened.read(file["path"]) == whole.content
            assert json.loads(opened.read("manifest.json")) == manifest
        for path in ("../manifest.json", "manifest.json", "%2e%2e/x", "no.parquet"):
            problem(anna.get(f"/jobs/{job}/result/{path}"), 404)
    lines = [json.loads(line) for line in gateway.audit.splitlines()]
    assert [(line["user"], line["status"]) for line in lines if str(job) in line["jobs"]] == [
        ("anna", 201)
    ]


def test_a_client_that_stops_reading_costs_no_memory(
    gateway: Gateway, process_platform: Platform
) -> None:
    with gateway.user("zoe") as zoe:
        job = submit(zoe)
        place = process_platform.completed(job, "gateway")
        (file,) = (each for each in place.iterdir() if each.name != "manifest.json")
        place.chmod(0o755)
        file.chmod(0o644)
        os.truncate(file, 10 * 2**30)  # it has no blocks: the disk need not have room
        process = psutil.Process(gateway.process.pid)
        before = process.memory_info().rss
        for path in (f"result/{file.name}", "result.zip"):
            with zoe.stream("GET", f"/jobs/{job}/{path}") as answer:
                assert int(answer.headers["content-length"]) >= 10 * 2**30
                next(answer.iter_raw(1))
                sent = 0

                def waits() -> bool:
                    nonlocal sent
                    earlier, sent = sent, process.io_counters().read_chars
                    return sent == earlier

                wait_until(waits, what="the gateway waits for its client")
                assert process.memory_info().rss - before < 64 * 2**20


def test_a_job_waits_for_others_of_its_user_alone(
    gateway: Gateway, process_platform: Platform
) -> None:
    with gateway.user("anna") as anna, gateway.user("bob") as bob, pause(process_platform):
        first = submit(anna, key="the first of anna")
        second = submit(anna, after=["the first of anna"])
        found = anna.get(f"/jobs/{second}").json()
        assert found["job"]["state"] == "blocked"
        assert found["reasons"][0].startswith(f"waits for job {first} (")
        of_first = {"source": f"job://gateway/{first}/primes.parquet"}
        body = {"task": "average-files", "payload": of_first, "results_directory": "gateway"}
        for asked in (body, body | {"payload": {"source": "x"}, "after": [str(first)]}):
            assert "there is no job" in problem(bob.post("/jobs", json=asked), 404)
            many = {**asked, "payloads": [asked["payload"]]}
            del many["payload"]
            assert "there is no job" in problem(bob.post("/jobs/bulk", json=many), 404)
        mine = body | {"payload": {"source": "x"}, "after": ["the first of anna"]}
        assert "nor one of your keys" in problem(bob.post("/jobs", json=mine), 422)
        problem(anna.post("/jobs", json=body | {"after": [str(uuid4())]}), 404)
        for job in (second, first):
            anna.post(f"/jobs/{job}/cancel")


def test_jobs_of_others_are_unknown_unless_the_token_says_otherwise(gateway: Gateway) -> None:
    with (
        gateway.user("anna") as anna,
        gateway.user("bob") as bob,
        gateway.user("carol", Scope.SUBMIT, Scope.READ_ALL) as carol,
        gateway.user("dave", Scope.OPERATE) as dave,
    ):
        job = submit(anna, LONG, tags=["of-anna"])
        mine = f"/jobs/{job}"
        for path in (mine, f"{mine}/logs", f"{mine}/result", f"{mine}/result.zip"):
            assert "there is no job" in problem(bob.get(path), 404)
        refused = (bob.post(f"{mine}/cancel"), bob.post(f"{mine}/restart"), bob.delete(mine))
        for answer in refused:
            assert "there is no job" in problem(answer, 404)
        assert bob.get("/jobs", params={"tag": "of-anna"}).json()["jobs"] == []
        assert bob.get("/jobs", params={"tag": "user:anna"}).json()["jobs"] == []
        assert carol.get(mine).is_success
        assert len(carol.get("/jobs", params={"tag": "of-anna"}).json()["jobs"]) == 1
        assert "another's" in problem(carol.post(f"{mine}/cancel"), 403)
        problem(dave.delete(mine), 409)  # it has not ended
        assert dave.post(f"{mine}/cancel").is_success
        wait_until(
            lambda: anna.get(mine).json()["job"]["state"] == "cancelled", what="it is cancelled"
        )
        again = UUID(anna.post(f"{mine}/restart").json()["job"])
        assert anna.get(f"/jobs/{again}").is_success
        assert anna.post(f"/jobs/{again}/cancel").is_success
        assert anna.delete(mine).is_success
        problem(anna.get(mine), 404)
    assert '"reason": "the token does not allow to change job' in gateway.audit


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"job_variables": {"env": {"A": "b"}}}, "job_variables: there is no such field"),
        thorough({"pull_steps": [{"run_shell_script": {}}]}, "pull_steps: there is no such"),
        thorough({"entrypoint": "flows/run_container.py:run_container"}, "entrypoint: there is"),
        thorough({"state": {"type": "COMPLETED"}}, "state: there is no such field"),
        thorough({"labels": {"prefecture.attempt": 9}}, "labels: there is no such field"),
        thorough({"idempotency_key": "requeue:x"}, "idempotency_key: there is no such field"),
        thorough({"work_queue_name": "high"}, "work_queue_name: there is no such field"),
        ({"tags": ["user:anna"]}, "tags: 'user:anna' is set by the gateway"),
        thorough({"queue": "urgent"}, "queue: "),
        thorough({"task": "aggregate-history"}, "there is no compute task 'aggregate-history'"),
        thorough({"task": "find-primes/high"}, "task: 'find-primes/high' has a '/'"),
        thorough({"results_directory": "../x"}, "results_directory: "),
        thorough({"payload": {"upper_bound": -1}}, "payload"),
        thorough({"payload": [1]}, "payload: "),
        thorough({"payload": {"__prefect_kind": "jinja"}}, "__prefect_kind is not allowed"),
        thorough({"memory": "1x"}, "memory: '1x' is not a number"),
        thorough({"max_duration": 0}, "max_duration: 0 is less than 1 second"),
        thorough({"key": "k" * 200}, "key: "),
        thorough({"tags": ["a\nb"]}, "unprintable"),
    ],
)
def test_what_a_submission_may_not_say(gateway: Gateway, more: dict[str, Any], named: str) -> None:
    body = {"task": "find-primes", "payload": SHORT, "results_directory": "gateway"}
    with gateway.user("eve") as eve:
        assert named in problem(eve.post("/jobs", json=body | more), 422)
        assert eve.get("/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"{", 422), (b"[]", 422), (b"\xff", 400), (b"[" * 100_000, 400)],
    ids=["empty", "broken", "a list", "not UTF-8", "deep"],
)
def test_a_body_that_is_no_request(gateway: Gateway, body: bytes, status: int) -> None:
    with gateway.user("eve") as eve:
        headers = {"Content-Type": "application/json"}
        problem(eve.post("/jobs", content=body, headers=headers), status)


@pytest.mark.parametrize(
    "criterion",
    [
        {"state": "done"},
        {"limit": "0"},
        {"since": "soon"},
        {"since": "2999-01-01", "until": "2026-01-01"},
        {"tag": ""},
        {"owner": "anna"},
        {"after": "x"},
    ],
    ids=str,
)
def test_a_list_of_nothing(gateway: Gateway, criterion: dict[str, str]) -> None:
    with gateway.user("eve") as eve:
        problem(eve.get("/jobs", params=criterion), 422)


def test_a_key_is_of_its_user(gateway: Gateway) -> None:
    key = str(uuid4())
    with gateway.user("anna") as anna, gateway.user("bob") as bob:
        first = submit(anna, key=key)
        assert submit(anna, key=key) == first
        assert submit(bob, {"upper_bound": 11}, key=key) != first
        body = {"task": "find-primes", "payload": {"upper_bound": 7}, "key": key}
        taken = problem(anna.post("/jobs", json=body | {"results_directory": "gateway"}), 409)
        assert str(first) in taken


def test_many_are_accepted_in_order_or_none(gateway: Gateway) -> None:
    payloads = [{"upper_bound": bound} for bound in (30, 20, 10)]
    body: dict[str, Any] = {"task": "find-primes", "results_directory": "many"}
    with gateway.user("fay") as fay:
        wrong = fay.post("/jobs/bulk", json=body | {"payloads": [*payloads, {}]})
        assert "payload 4 of 4" in problem(wrong, 422)
        assert fay.get("/jobs").json()["jobs"] == []
        ids = fay.post("/jobs/bulk", json=body | {"payloads": payloads, "key": "k"}).json()["jobs"]
        again = fay.post("/jobs/bulk", json=body | {"payloads": payloads, "key": "k"})
        assert again.json()["jobs"] == ids
        listed = fay.get("/jobs", params={"directory": "many"}).json()["jobs"]
        assert {each["job"] for each in listed} == {*ids}


@pytest.mark.parametrize(
    ("scope", "refused"),
    [(Scope.READ_OWN, ("POST", "/jobs")), (Scope.SUBMIT, ("GET", "/jobs"))],
    ids=str,
)
def test_a_scope_is_needed(gateway: Gateway, scope: Scope, refused: tuple[str, str]) -> None:
    with gateway.user("gus", scope) as gus:
        method, path = refused
        body = {"task": "find-primes", "payload": SHORT, "results_directory": "gateway"}
        answer = gus.request(method, path, json=body if method == "POST" else None)
        assert "the token has not the scope" in problem(answer, 403)


def test_a_helper_or_a_flow_of_the_platform_is_no_job(
    gateway: Gateway, process_platform: Platform
) -> None:
    flow = process_platform.create("aggregate-history/platform").json()
    with gateway.user("dave", Scope.OPERATE) as dave:
        problem(dave.get(f"/jobs/{flow['id']}"), 404)
        problem(dave.delete(f"/jobs/{flow['id']}"), 404)
    process_platform.rest("DELETE", f"/flow_runs/{flow['id']}")


def test_a_secret_is_for_those_whose_token_names_it(
    gateway: Gateway, process_platform: Platform
) -> None:
    with temporary_settings({PREFECT_API_URL: process_platform.api}):
        asyncio.run(Secret(value=SecretStr("swordfish")).asave("gateway-key", overwrite=True))
    body = {
        "task": "run-container",
        "payload": {"image": "debian:12", "secrets": ["gateway-key"]},
        "results_directory": "gateway",
    }
    other = body | {"payload": {"image": "debian:12", "secrets": ["no-such-key"]}}
    bulk = {
        "task": "run-container",
        "payloads": [{"image": "debian:12"}, body["payload"]],
        "results_directory": "gateway",
    }
    allowed = Tokens(gateway.home).add("ines", allowed=("gateway-key", "no-such-key"))
    with gateway.user("hans") as hans, gateway.client(allowed) as ines:
        for path, request in (("/jobs", body), ("/jobs", other), ("/jobs/bulk", bulk)):
            said = problem(hans.post(path, json=request), 403)
            assert "the token does not allow the secret" in said
        assert ines.get("/me").json()["secrets"] == ["gateway-key", "no-such-key"]
        assert "no Secret block 'no-such-key'" in problem(ines.post("/jobs", json=other), 422)
        # Here jobs are plain processes: this is what is refused, and no secret.
        assert "needs a Docker engine" in problem(ines.post("/jobs", json=body), 422)
    with gateway.user("olaf", Scope.OPERATE) as olaf:
        assert "needs a Docker engine" in problem(olaf.post("/jobs", json=body), 422)
    with pytest.raises(InvalidPayload, match="no name of a block"):
        Tokens(gateway.home).add("ines", allowed=("../x",))
