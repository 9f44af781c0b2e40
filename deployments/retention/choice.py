"""Decides which results have expired."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from rich.filesize import decimal

from tasks.storage.retention.records import KeptResult

YOUNG = timedelta(minutes=10)
"""For so long a result stays, however little space there is: its job may not have ended yet."""


@dataclass(frozen=True)
class Rules:
    """When results expire. None: never for that."""

    age: timedelta | None
    size: int | None
    """Bytes that all results together may have; the oldest go first."""


def expired(
    results: Iterable[KeptResult], rules: Rules, now: datetime, spared: Collection[UUID] = ()
) -> list[tuple[KeptResult, str]]:
    """The results that have expired, the oldest first, each with the reason.

    `spared`: jobs whose results stay. They count, but others are removed in their place.
    """
    listed = sorted(results, key=lambda result: result.published)
    chosen: dict[str, tuple[KeptResult, str]] = {}
    for result in listed:
        reason = _too_old(result, rules.age, now)
        if reason and result.job not in spared:
            chosen[result.place] = (result, reason)
    if rules.size is not None:
        rest = [result for result in listed if result.place not in chosen]
        for result in _too_large(rest, rules.size, now, spared):
            reason = f"all results together had more than {decimal(rules.size)}"
            chosen[result.place] = (result, reason)
    return sorted(chosen.values(), key=lambda one: one[0].published)


def _too_old(result: KeptResult, age: timedelta | None, now: datetime) -> str:
    """Why a result is too old; empty where it is not. The sooner of two times counts."""
    if result.expires is not None and result.expires <= now:
        return "its job had asked to keep it no longer"
    if age is not None and result.published + age <= now:
        return f"results are kept for {_in_words(age)} here"
    return ""


def _too_large(
    results: Sequence[KeptResult], size: int, now: datetime, spared: Collection[UUID]
) -> Iterable[KeptResult]:
    total = sum(result.bytes for result in results)
    for result in results:
        if total <= size:
            return
        if result.job in spared or result.published + YOUNG > now:
            continue
        total -= result.bytes
        yield result


def _in_words(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return "1 day" if days == 1 else f"{days:g} days"
