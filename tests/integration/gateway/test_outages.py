"""Streams of events while the server or the gateway is killed."""

from pathlib import Path

import httpx
import psutil

from tests.support.migrated import put_database
from tests.support.platform import free_port, rest
from tests.support.servers import stock_server_at
from tests.support.web.events import Heard, listening
from tests.support.web.gateway import gateway_at


def submit(user: httpx.Client) -> str:
    payload = {"upper_bound": 100}
    body = {"task": "find-primes", "payload": payload, "results_directory": "outages"}
    answer = user.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job"])


def kill(process: int) -> None:
    """SIGKILL to a process and its children."""
    parent = psutil.Process(process)
    for each in (*parent.children(recursive=True), parent):
        each.kill()


def test_no_change_is_lost_where_the_server_and_then_the_gateway_are_killed(tmp_path: Path) -> None:
    """There is no worker: the test moves the jobs, so that it knows all of their states."""
    put_database(tmp_path, "process")
    port, at = free_port(), free_port()
    api = f"http://127.0.0.1:{port}/api"

    def move(job: str, *states: str) -> None:
        for state in states:
            body = {"state": {"type": state, "message": "as the test wants it"}, "force": True}
            rest(api, "POST", f"/flow_runs/{job}/set_state", body).raise_for_status()

    def hears(heard: Heard, job: str, *states: str) -> None:
        heard.wait(lambda heard: heard.states(job)[-len(states) :] == [*states], f"{states}")

    with (
        stock_server_at(port, tmp_path) as server,
        gateway_at(at, tmp_path, api) as gateway,
        gateway.user("anna") as anna,
        listening(anna, "/events") as heard,
    ):
        first, second, third = (submit(anna) for _ in range(3))
        move(first, "PENDING", "RUNNING")
        hears(heard, first, "waiting", "starting", "running")
        hears(heard, third, "waiting")
        kill(server.pid)
        heard.wait_for("away")
        with stock_server_at(port, tmp_path):
            move(first, "COMPLETED")
            move(second, "FAILED")
            move(third, "RUNNING")
            heard.wait_for("back")
            hears(heard, first, "completed")
            hears(heard, third, "running")
            # Failed is final after some seconds.
            hears(heard, second, "waiting", "failed", "failed")
            assert heard.of(second)[-1].data["outcome"] == "failed"
            assert heard.of(second)[-1].data["text"] == "as the test wants it"
            gateway.process.kill()
            heard.wait(lambda heard: heard.is_over, "the end of the stream")
            move(third, "CRASHED")
            move(second, "SCHEDULED")  # as Retry does in Prefect's UI
            with (
                gateway_at(at, tmp_path, api),
                listening(anna, "/events", after=heard.last_id) as more,
            ):
                hears(more, third, "crashed")
                hears(more, second, "waiting")
                fourth = submit(anna)
                hears(more, fourth, "waiting")
                assert more.of(first) == []
                assert "reset" not in [each.event for each in more.messages]
                assert more.of(third)[-1].data["outcome"] is None
                ids = [each.id for each in (*heard.messages, *more.messages) if each.data]
                assert len(ids) == len({*ids})
