"""Secrets, read from Prefect's Secret blocks at each use and never stored."""

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound

from deployments.notifications.subscribers import SECRET
from tasks.errors import DeliveryFailed


async def read_secret(name: str) -> str:
    """Read the Secret block named `secret/<block>`. Raises DeliveryFailed where that fails."""
    block = name.removeprefix(SECRET)
    try:
        async with get_client() as client:
            document = await client.read_block_document_by_name(block, "secret")
    except ObjectNotFound as error:
        raise DeliveryFailed(
            f"there is no block {name}: save the secret in the UI under Blocks, or by "
            f"`Secret(value=…).save({block!r})`"
        ) from error
    except httpx.HTTPError as error:
        why = str(error).partition("\n")[0]
        raise DeliveryFailed(f"{name} cannot be read from the Prefect server: {why}") from error
    # The stored value: the block's own get() would parse a password such as 12345 as a number.
    return str(document.data["value"])
