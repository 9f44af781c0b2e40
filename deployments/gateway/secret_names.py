"""Which secrets the jobs of a user may have: those that the token names, and that exist."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from deployments.gateway.users.access import Caller
from deployments.gateway.users.tokens import Scope
from deployments.jobs.request import cut
from tasks.errors import InvalidPayload

FIELD = "secrets"
"""The field of a payload that names Secret blocks."""


async def check_secrets(
    client: PrefectClient, caller: Caller, payloads: Iterable[Mapping[str, Any]]
) -> None:
    """Check that jobs of a user may have the secrets that their payloads name.

    Raises HTTPException: 403 where the token does not allow one, and InvalidPayload where the
    server has none of that name.
    """
    names = {name for payload in payloads for name in _named(payload)}
    for name in sorted(names):
        if name not in caller.token.secrets and not caller.token.allows(Scope.OPERATE):
            raise caller.refuse(
                f"the token does not allow the secret {cut(name)!r}: ask the operator for one that "
                "does"
            )
        try:
            # The value is not read.
            await client.read_block_document_by_name(name, "secret", include_secrets=False)
        except ObjectNotFound:
            raise InvalidPayload(
                f"payload.{FIELD}: there is no Secret block {cut(name)!r} on the Prefect server"
            ) from None


def _named(payload: Mapping[str, Any]) -> Iterator[str]:
    """What is no list of names, the schema of the task refuses."""
    found: Any = payload.get(FIELD)
    if isinstance(found, list):
        yield from (name for name in cast("list[Any]", found) if isinstance(name, str))
