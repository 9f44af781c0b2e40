"""Which sources the jobs of a user may have: of what was uploaded, only what is there and is the
user's own."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial

from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.uploads.store import Store
from deployments.gateway.users.access import Caller
from deployments.gateway.users.tokens import Scope
from deployments.jobs.request import cut
from tasks.errors import OperatorError, StorageUnavailable

_PATIENCE = 5.0  # seconds for which files are looked for


async def check_sources(
    caller: Caller, uploads: Uploads, sources: Mapping[str, str]
) -> Mapping[str, str]:
    """Check that no source names what other users have uploaded. Returns the sources of uploads
    that are not there, each with the reason for its refusal.

    `sources`: each with its field in the payload. Where S3 is away, or many files are looked for in
    vain, a source is let pass: its job says what is missing. Raises HTTPException: 403.
    """
    user, store = caller.token.user, uploads.store

    def others() -> str | None:
        return next((text for text in sources if store.has_of_others(user, text)), None)

    if not caller.token.allows(Scope.OPERATE) and (text := await asyncio.to_thread(others)):
        raise caller.refuse(
            f"payload.{sources[text]}: {cut(text)!r} names files that other users have uploaded, "
            f"or a folder with those of all: name your own, which are in {store.source(user, '')}"
        )
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


def _missing(store: Store, sources: list[str]) -> list[str]:
    """The sources that name uploads which are not there, as far as they are found in time."""
    until = time.monotonic() + _PATIENCE / 2
    return [text for text in sources if time.monotonic() < until and store.is_missing(text)]
