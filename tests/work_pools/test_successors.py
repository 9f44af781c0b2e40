"""What a later attempt is called: once, however many there were before."""

from datetime import UTC, datetime
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun

from tasks.contracts import attempt_tag, own_tags
from tasks.runtime.events import about
from work_pools.supervisor.runs import Successor

NOW = datetime.now(UTC)
REASON = "killed (exit code 137)"


def run_with(*tags: str) -> FlowRun:
    return FlowRun(flow_id=uuid4(), name="swift-fox", tags=list(tags))


def test_a_later_attempt_has_one_tag_that_says_so() -> None:
    second = Successor(run_with("user:anna"), 2, REASON, 0.0, 5).body(NOW)
    assert second["tags"] == ["user:anna", f"attempt 2 of 5, after: {REASON}"]
    third = Successor(run_with(*second["tags"]), 3, "lost:\nits host is gone", 0.0, 5).body(NOW)
    assert third["tags"] == ["user:anna", "attempt 3 of 5, after: lost: its host is gone"]


def test_subscribers_see_the_tags_of_the_job_alone() -> None:
    run = run_with("user:anna", attempt_tag(2, 5, REASON), "attempt 2", "after: lunch")
    assert about(run, "find-primes")["tags"] == ["user:anna", "attempt 2", "after: lunch"]


def test_a_tag_is_short() -> None:
    tag = attempt_tag(2, 5, "x" * 1000)
    assert len(tag) == 100
    assert own_tags([tag]) == []
