"""From when an attempt's time is counted."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State, StateType

from work_pools.supervisor.infrastructure.instance import Instance
from work_pools.supervisor.stopping import counted_from

_TAKEN = datetime(2026, 11, 22, 12, tzinfo=UTC)
_START, _AHEAD = timedelta(seconds=60), timedelta(seconds=2)


@pytest.mark.parametrize(
    ("type", "instance", "since"),
    [
        (StateType.RUNNING, timedelta(days=-1), _AHEAD),
        (StateType.PENDING, timedelta(seconds=5), timedelta(seconds=65)),
        # A standby since the day before: that was not the run's time.
        (StateType.PENDING, timedelta(days=-1), _AHEAD + _START),
    ],
)
def test_counted_from(type: StateType, instance: timedelta, since: timedelta) -> None:
    state = State(type=type, timestamp=_TAKEN)
    found = Instance(uuid4(), "1", alive=True, since=_TAKEN + instance)
    assert counted_from(state, [found], _START, _AHEAD) == _TAKEN + since
