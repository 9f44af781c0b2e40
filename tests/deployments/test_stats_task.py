"""A task that `prefecture stats` does not know."""

import pytest

from deployments.stats import check_task, declared_tasks
from tasks.errors import InvalidPayload


def test_declared_tasks_are_known_without_a_history() -> None:
    assert {"find-primes", "run-container"} <= declared_tasks()
    assert "aggregate-history" not in declared_tasks()
    check_task("find-primes", [])


def test_task_of_the_past_is_known() -> None:
    check_task("retired", ["retired"])


def test_unknown_task_is_refused_with_the_choice() -> None:
    with pytest.raises(InvalidPayload, match=r"no compute task 'find-prime'.*find-primes"):
        check_task("find-prime", ["retired"])
