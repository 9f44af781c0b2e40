"""generate-data to Kafka: a mock broker over TCP, which may go away, and a real consumer."""

import json
import time
from uuid import UUID

import pytest

from tasks.generation.containers import RESTARTS
from tests.integration.generate_data.jobs import (
    clicks,
    delivered,
    delivering,
    printing,
    segments,
    shown,
    submit_job,
    summary,
)
from tests.integration.run_container.jobs import failed, shell, siblings
from tests.support.platform import Platform, wait_until
from tests.support.session.groups import is_run
from tests.support.session.on_time import OnTime
from tests.tasks.generation.topics.broker import Broker


@pytest.fixture(scope="module", autouse=True)
def hopeless(request: pytest.FixtureRequest, docker_platform: Platform) -> UUID | None:
    """A job whose containers die at once, again and again: for half a minute, in one slot.

    None where nobody is to ask for it.
    """
    if not is_run(request, test_containers_that_all_die_again_and_again_fail_the_job):
        return None
    script = "echo '{\"n\": 1}'; echo cannot reach the sensor >&2; exit 3"
    return submit_job(docker_platform, shell(script, topic="hopeless", duration=600, containers=2))


def test_to_kafka_in_order(docker_platform: Platform, kafka: Broker) -> None:
    job = submit_job(docker_platform, clicks(f"kafka://{kafka.address}/clicks"))
    said = summary(docker_platform, job)
    found = kafka.read("clicks")
    assert len(found) == said["delivered"] > 0
    for number, container in enumerate(said["containers"], start=1):
        own = [json.loads(value)["n"] for key, value in found if key == str(number).encode()]
        assert own == list(range(1, container["messages"] + 1))


@pytest.mark.thorough
def test_a_broker_that_comes_back_gets_what_waits(docker_platform: Platform, kafka: Broker) -> None:
    topic = f"kafka://{kafka.address}/back"
    job = delivering(docker_platform, printing(topic, rate=100, duration=15))
    seen: dict[str, int] = {}  # in order: what was shown, and the lines delivered by then

    def waits() -> bool:
        text = shown(docker_platform, job)
        seen[text] = delivered(text)
        return len(seen) > 2 and len({*list(seen.values())[-2:]}) == 1

    with kafka.away():
        wait_until(waits, what="nothing more is delivered, a second later")
        *_, (text, count) = seen.items()
        assert " 0 messages/s" not in text, "it generates, and lines wait"
    said = summary(docker_platform, job)
    (container,) = said["containers"]
    assert said["delivered"] == container["messages"] > count
    assert container["restarts"] == 0
    found = [json.loads(value) for _, value in kafka.read("back")]
    # Only Apache Kafka itself would not take a second time what was on its way when it went.
    numbers = dict.fromkeys(line["n"] for line in found)
    assert list(numbers) == list(range(1, said["delivered"] + 1))
    to = {"TOPIC": "back", "KAFKA_TOPIC": "back", "KAFKA_BOOTSTRAP_SERVERS": kafka.address}
    assert found[0]["to"] == to


@pytest.mark.thorough
def test_it_is_cancelled_while_its_broker_is_away(
    docker_platform: Platform, kafka: Broker, on_time: OnTime
) -> None:
    topic = f"kafka://{kafka.address}/cancelled"
    job = delivering(docker_platform, printing(topic, rate=100, duration=600))
    with kafka.away():
        began = time.monotonic()
        done = docker_platform.command("prefecture", "cancel", str(job))
        assert done.stdout.strip() == f"job {job} is cancelled", done.stderr
        on_time(time.monotonic() - began < 20, "not by SIGKILL, 30 s later")
    assert siblings(docker_platform, job) == []


@pytest.mark.thorough
def test_containers_that_all_die_again_and_again_fail_the_job(
    docker_platform: Platform, hopeless: UUID | None
) -> None:
    assert hopeless
    line = "every container exited early, 6 times: cannot reach the sensor"
    assert failed(docker_platform, hopeless) == line
    assert len(segments(docker_platform, "hopeless", hopeless)) == 2 * (1 + RESTARTS), (
        "what they said is delivered all the same"
    )
    assert siblings(docker_platform, hopeless) == []
