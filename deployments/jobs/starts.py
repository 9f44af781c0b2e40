"""The time at which a job is to begin its work, as its payload says it: `start`."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_CLOCKS = timedelta(seconds=5)  # by which the clock of who submits may be late


def has_passed(payload: Mapping[str, Any]) -> bool:
    """Whether a payload has a start that a new job could not have any more."""
    try:
        return datetime.fromisoformat(payload.get("start", "")) < datetime.now(UTC) - _CLOCKS
    except (ValueError, TypeError):  # there is none, or no time: that is said by the schema
        return False


def refusal(payload: Mapping[str, Any]) -> str:
    """Why a new job cannot have this payload; empty where it may."""
    if not has_passed(payload):
        return ""
    return f"payload.start: {payload['start']} is in the past: give a later time, or leave it out"
