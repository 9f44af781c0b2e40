"""Short job ids: the first characters of an id, as git abbreviates commits."""

import re
from collections.abc import Iterable, Sequence
from uuid import UUID

from deployments.jobs.request import cut
from tasks.errors import InvalidPayload

SHORTEST = 4
"""The minimum number of digits of a prefix."""
_NAMED = 5  # candidates in a message
_USUAL = {4: 8, 7: 18}  # characters by UUID version: version 7 begins with the time


def short_ids(jobs: Iterable[UUID]) -> dict[UUID, str]:
    """A prefix for each job that is unambiguous among the given jobs."""
    ordered = sorted(map(str, set(jobs)))
    short: dict[UUID, str] = {}
    for before, id, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False):
        usual = _USUAL.get(UUID(id).version or 0, len(id))
        length = max(usual, _common(id, before) + 1, _common(id, after) + 1)
        short[UUID(id)] = id[:length].rstrip("-")
    return short


def prefix_of(text: str) -> str:
    """The prefix of an id in the server's notation. Raises InvalidPayload where it is none."""
    digits = text.lower().replace("-", "")
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},31}}", digits):
        raise InvalidPayload(
            f"'{cut(text)}' is not a job id, nor {SHORTEST} or more of its first digits: "
            "`prefecture jobs` shows them"
        )
    whole = str(UUID(digits.ljust(32, "0")))
    hyphens = sum(len(digits) > place for place in (8, 12, 16, 20))
    return whole[: len(digits) + hyphens]


def the_only_one(text: str, jobs: Sequence[UUID]) -> UUID:
    """The job whose id begins with a text. `jobs`: all of which that is true.

    Raises InvalidPayload where there is none, or are several.
    """
    if not jobs:
        raise InvalidPayload(f"no job's id begins with '{text}': `prefecture jobs` lists them")
    if len(jobs) > 1:
        some = ", ".join(map(str, jobs[:_NAMED]))
        more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
        raise InvalidPayload(f"'{text}' begins the ids of {some}{more}: give more digits")
    return jobs[0]


def _common(one: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
