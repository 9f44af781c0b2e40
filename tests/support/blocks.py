"""Blocks on a test's server, saved as a user would."""

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from pydantic import SecretStr


async def save_secret(name: str, value: str) -> None:
    """A Secret block, on the server that the test's own Prefect client talks to."""
    await Secret(value=SecretStr(value)).asave(name, overwrite=True)


async def save_notifier(name: str, url: str) -> str:
    """A notification block that posts subject and body to an address. Returns its full name."""
    block = CustomWebhookNotificationBlock.model_validate(
        {"name": name, "url": url, "json_data": {"subject": "{{subject}}", "body": "{{body}}"}}
    )
    await block.asave(name, overwrite=True)
    return f"custom-webhook/{name}"
