"""generate-data: containers that start and end on time, and lines that arrive."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.integration.generate_data.jobs import (
    clicks,
    delivering,
    printing,
    segments,
    started,
    submit_job,
    summary,
)
from tests.integration.run_container.jobs import failed, python, running_sibling, shell, siblings
from tests.support.containers import kill_container
from tests.support.platform import Platform, free_port, wait_until
from tests.support.session.groups import is_run
from tests.support.session.on_time import OnTime
from tests.tasks.generation.topics.broker import Broker

LONG_LINE = 10_000  # bytes
DURATION = 30  # seconds: the half of it is enough for a job to start, whatever the machine does


@dataclass(frozen=True)
class Lost:
    """A job whose broker was killed in the middle."""

    job: UUID
    topic: str


@pytest.fixture(scope="module", autouse=True)
def lost(
    request: pytest.FixtureRequest, docker_platform: Platform, kafka_to_kill: Broker
) -> Lost | None:
    """It waits a minute for its broker, in one slot; meanwhile the other tests use the other.

    None where nobody is to ask for it.
    """
    if not is_run(request, test_a_broker_that_is_killed_in_the_middle_is_reported):
        return None
    topic = f"kafka://{kafka_to_kill.address}/lost"
    payload = printing(topic, rate=200, size=LONG_LINE, duration=600)
    job = delivering(docker_platform, payload)
    kafka_to_kill.process.kill()
    return Lost(job, topic)


@pytest.mark.thorough
def test_to_a_folder_on_time(docker_platform: Platform, on_time: OnTime) -> None:
    start = datetime.now(UTC) + timedelta(seconds=15)
    own = {"user": "anna", "description": "a test", "duration": DURATION}
    payload = clicks("on-time", start=start.isoformat(), **own)
    job = submit_job(docker_platform, payload)
    said = summary(docker_platform, job)
    lines = segments(docker_platform, "on-time")
    assert len(lines) == said["delivered"] == sum(c["messages"] for c in said["containers"])
    on_time(len(lines) > 2 * DURATION * 20 * 0.5, "of two containers, 20 lines a second each")
    begun = started(docker_platform, job, start)
    assert len(begun) == 2
    assert all((at - start).total_seconds() > -1 for at in begun), begun
    on_time(all((at - start).total_seconds() < 1 for at in begun), begun)
    for container in said["containers"]:
        first, last = (datetime.fromisoformat(container[key]) for key in ("first", "last"))
        # The engine notes a start a moment after it.
        assert begun[0] - timedelta(seconds=0.5) < first < last
        assert last - start > timedelta(seconds=DURATION / 2)
        on_time(abs((last - start).total_seconds() - DURATION) < 1, last)
        assert (container["aside"], container["restarts"]) == (0, 0)
    assert (said["user"], said["description"]) == ("anna", "a test")
    (bar,) = docker_platform.artifacts(job, "progress")
    assert "2 containers up" in bar["description"]
    assert siblings(docker_platform, job) == []


def test_what_is_no_json_is_kept_aside(docker_platform: Platform) -> None:
    script = "echo starting; echo '{\"n\": 1}'; echo $TOPIC >&2; sleep 60"
    job = submit_job(docker_platform, shell(script, topic="aside", duration=2))
    said = summary(docker_platform, job)
    assert said["containers"][0]["aside"] == 1
    assert segments(docker_platform, "aside") == [{"n": 1}]
    folder = docker_platform.results / "generated" / str(job)
    assert (folder / "container-1.aside.log").read_text() == "starting\n"
    assert (folder / "container-1.stderr.log").read_text() == "aside\n"


@pytest.mark.thorough
def test_one_that_dies_early_is_started_again(docker_platform: Platform) -> None:
    script = "echo '{\"n\": 1}'; echo cannot >&2; exit 3"
    job = submit_job(docker_platform, shell(script, topic="dying", duration=DURATION))
    (container,) = summary(docker_platform, job)["containers"]
    # After one, two, four and eight seconds and fifteen, as many as the machine has time for; the
    # last may have been stopped at the end before it said anything.
    assert container["restarts"] in (2, 3, 4)
    assert container["messages"] == len(segments(docker_platform, "dying")) >= 3
    assert container["messages"] in (container["restarts"], container["restarts"] + 1)


@pytest.mark.thorough
def test_one_that_ignores_sigterm_is_killed(docker_platform: Platform) -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True:\n    print('{}', flush=True)\n    time.sleep(0.1)\n"
    )
    job = submit_job(docker_platform, python(program, topic="deaf", duration=1))
    said = summary(docker_platform, job)
    assert said["containers"][0]["restarts"] == 0
    assert siblings(docker_platform, job) == []


@pytest.mark.thorough
def test_stopped_before_its_start_it_starts_nothing(docker_platform: Platform) -> None:
    start = datetime.now(UTC) + timedelta(hours=1)
    job = submit_job(docker_platform, clicks("never", start=start.isoformat()))
    wait_until(lambda: docker_platform.artifacts(job, "progress"), what="it waits for the start")
    assert [one for one in siblings(docker_platform, job) if one.status == "running"] == []
    done = docker_platform.command("prefecture", "cancel", str(job))
    assert done.returncode == 0, done.stderr
    assert siblings(docker_platform, job) == []
    assert segments(docker_platform, "never") == []


@pytest.mark.thorough
def test_stopped_in_the_middle_and_started_again(docker_platform: Platform) -> None:
    job = submit_job(docker_platform, printing("stopped", duration=600))
    wait_until(lambda: segments(docker_platform, "stopped"), what="it generates")
    done = docker_platform.command("prefecture", "cancel", str(job))
    assert done.stdout.strip() == f"job {job} is cancelled", done.stderr
    assert siblings(docker_platform, job) == []
    lines = segments(docker_platform, "stopped")
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1)), "each is whole"
    again = UUID(docker_platform.command("prefecture", "restart", str(job)).stdout.strip())
    assert docker_platform.run(again)["parameters"] == docker_platform.run(job)["parameters"]
    running_sibling(docker_platform, again)
    for verb, which in (("cancel", again), ("delete", again), ("delete", job)):
        done = docker_platform.command("prefecture", verb, str(which))
        assert done.returncode == 0, done.stderr
    assert siblings(docker_platform, again) == []
    assert docker_platform.rest("GET", f"/flow_runs/{job}").status_code == 404
    assert segments(docker_platform, "stopped", job) == lines, "the topic is the user's"


@pytest.mark.thorough
def test_its_flow_is_killed_and_it_goes_on_for_the_rest(
    docker_platform: Platform, on_time: OnTime
) -> None:
    job = submit_job(docker_platform, clicks("killed", duration=60, containers=1))
    first = running_sibling(docker_platform, job)
    until = docker_platform.run(job)["labels"]["prefecture.until"]
    kill_container(docker_platform, str(job))
    running_sibling(docker_platform, job, not_that=first.id)
    key = {"flow_runs": {"idempotency_key": {"any_": [f"requeue:{job}:2"]}}}
    (again,) = docker_platform.rest("POST", "/flow_runs/filter", key).json()
    assert again["labels"]["prefecture.until"] == until
    run = docker_platform.ended(again["id"])
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    late = datetime.fromisoformat(run["end_time"]) - datetime.fromisoformat(until)
    assert late.total_seconds() > -1
    on_time(late.total_seconds() < 15, "for the rest, and not all of it again")


def test_bad_input(docker_platform: Platform) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    nowhere = f"kafka://127.0.0.1:{free_port()}/clicks"
    jobs = {
        "was in the past when the job was submitted": clicks("past", start=past),
        "list this one as name:port in PREFECTURE_JOB_HOSTS": clicks(nowhere),
    }
    submitted = {shown: submit_job(docker_platform, payload) for shown, payload in jobs.items()}
    for shown, job in submitted.items():
        assert shown in failed(docker_platform, job)
    for field, value in (("duration", 0), ("containers", 0), ("topic", "../x"), ("topic", "")):
        parameters = {"payload": clicks("x") | {field: value}, "results_directory": "bad"}
        response = docker_platform.create("generate-data/high", parameters=parameters)
        assert response.status_code == 409, response.text
        assert f"'payload.{field}'" in response.json()["detail"]


@pytest.mark.thorough
def test_a_broker_that_is_killed_in_the_middle_is_reported(
    docker_platform: Platform, lost: Lost | None
) -> None:
    assert lost
    message = failed(docker_platform, lost.job)
    shown = re.fullmatch(
        r"topic (\S+): no line was acknowledged for 60 s, ([\d,]+) lines wait: check the address, "
        r"and that the broker runs",
        message,
    )
    assert shown, message
    assert shown[1] == lost.topic
    # 32 MiB: so much waits, and who prints more waits too.
    waiting = int(shown[2].replace(",", ""))
    assert 25 * 2**20 < waiting * LONG_LINE < 34 * 2**20
    assert siblings(docker_platform, lost.job) == []
