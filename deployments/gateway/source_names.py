"""Which sources the jobs of a user may have: of what was uploaded, only what is there and is the
user's own."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.uploads.sources import is_within
from deployments.gateway.uploads.store import Store
from deployments.gateway.users.access import Caller
from deployments.gateway.users.tokens import Scope
from deployments.jobs.request import cut
from tasks.contracts import S3_SCHEME, S3Address
from tasks.errors import OperatorError, StorageUnavailable

_PATIENCE = 5.0  # seconds for which files are looked for


async def check_sources(
    caller: Caller, uploads: Uploads, places: Sequence[S3Address], sources: Mapping[str, str]
) -> Mapping[str, str]:
    """Check that no source names what other users have uploaded, or another place in S3 than
    `places`, where there are some. Returns the sources of uploads that are not there, each with the
    reason for its refusal.

    `sources`: each with its field in the payload. Where S3 is away, or many files are looked for in
    vain, a source is let pass: its job says what is missing. Raises HTTPException: 403.
    """
    user, store = caller.token.user, uploads.store

    def others() -> str | None:
        return next((text for text in sources if store.has_of_others(user, text)), None)

    if not caller.token.allows(Scope.OPERATE):
        if text := await asyncio.to_thread(others):
            raise caller.refuse(
                f"payload.{sources[text]}: {cut(text)!r} names files that other users have "
                "uploaded, or a folder with those of all: name your own, which are in "
                f"{store.source(user, '')}"
            )
        if places:
            _check_places(caller, store, places, sources)
    try:
        async with asyncio.timeout(_PATIENCE):
            missing = await uploads.in_background(partial(_missing, store, [*sources]))
    except (TimeoutError, StorageUnavailable, OperatorError):
        return {}
    return {
        text: f"payload.{sources[text]}: {cut(text)!r} names no file that is there: upload it "
        "again, or name another"
        for text in missing
    }


def _check_places(
    caller: Caller, store: Store, places: Sequence[S3Address], sources: Mapping[str, str]
) -> None:
    own = store.source(caller.token.user, "")
    may = [*places, S3Address.parse(own)] if own.startswith(S3_SCHEME) else places
    for text, field in sources.items():
        if text.casefold().startswith(S3_SCHEME) and not is_within(text, may):
            raise caller.refuse(
                f"payload.{field}: {cut(text)!r} is in no place that users may read: upload the "
                f"files, or name some of {', '.join(map(str, places))}"
            )


def _missing(store: Store, sources: list[str]) -> list[str]:
    """The sources that name uploads which are not there, as far as they are found in time."""
    until = time.monotonic() + _PATIENCE / 2
    return [text for text in sources if time.monotonic() < until and store.is_missing(text)]
