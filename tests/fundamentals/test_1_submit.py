"""Submit a job: a compute task, a payload, and the name of a results directory."""

from uuid import UUID

import pytest

from deployments import find_job, submit, submit_many
from tasks.errors import InvalidPayload, KeyTaken
from tests.support.platform import Platform

pytestmark = pytest.mark.usefixtures("prefecture")


def test_submit() -> None:
    job = submit("find-primes", {"upper_bound": 100}, "primes")
    assert job.wait().status == "Completed"


def test_submit_on_the_command_line(prefecture: Platform) -> None:
    words = ("submit", "find-primes", '{"upper_bound": 100}', "primes")
    printed = prefecture.command("prefecture", *words).stdout
    assert find_job(UUID(printed.strip())).wait().status == "Completed"


def test_submit_to_a_queue(prefecture: Platform) -> None:
    job = submit("find-primes", {"upper_bound": 100}, "primes", queue="high")
    assert prefecture.run(job.id)["work_queue_name"] == "high"


def test_submit_many() -> None:
    payloads = [{"upper_bound": bound} for bound in (10, 100, 1000)]
    jobs = submit_many("find-primes", payloads, "primes")
    counts = [job.wait().results().manifest.summary["count"] for job in jobs]
    assert counts == [4, 25, 168]


def test_a_bad_payload_is_refused() -> None:
    with pytest.raises(InvalidPayload, match=r"payload\.upper_bound.* 1 is less than"):
        submit("find-primes", {"upper_bound": 1}, "primes")


def test_a_key_submits_once() -> None:
    first = submit("find-primes", {"upper_bound": 100}, "primes", key="fundamentals")
    again = submit("find-primes", {"upper_bound": 100}, "primes", key="fundamentals")
    assert first == again
    with pytest.raises(KeyTaken, match=r"upper_bound is 100 and not 200"):
        submit("find-primes", {"upper_bound": 200}, "primes", key="fundamentals")
