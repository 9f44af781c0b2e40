"""Which files the jobs of a user may read: of what was uploaded, only the user's own."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from prefect.client.orchestration import PrefectClient

from deployments.gateway.uploads.store import Store
from deployments.gateway.users.access import Caller
from deployments.gateway.users.tokens import Scope
from deployments.jobs.dependencies.sources import texts_at
from deployments.jobs.request import Terms, cut
from deployments.jobs.submit import find_deployment


async def check_sources(
    client: PrefectClient,
    caller: Caller,
    store: Store,
    terms: Terms,
    payloads: Iterable[Mapping[str, Any]],
) -> None:
    """Check that no source of the payloads names what other users have uploaded.

    Raises HTTPException: 403; and InvalidPayload where there is no such task.
    """
    if caller.token.allows(Scope.OPERATE):
        return
    deployment = await find_deployment(client, terms, may_be_known=True)
    schema = deployment.parameter_openapi_schema or {}
    user = caller.token.user

    def find() -> tuple[str, str] | None:
        seen: set[str] = set()
        for payload in payloads:
            for keys, text in texts_at(payload, schema):
                if text not in seen and store.has_of_others(user, text):
                    return ".".join(keys), text
                seen.add(text)
        return None

    if found := await asyncio.to_thread(find):
        field, text = found
        raise caller.refuse(
            f"payload.{field}: {cut(text)!r} names files that other users have uploaded, or a "
            f"folder with those of all: name your own, which are in {store.source(user, '')}"
        )
