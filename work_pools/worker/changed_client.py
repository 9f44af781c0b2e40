"""A client of Prefect's that does some things in another way."""

from typing import Any

from prefect.client.orchestration import PrefectClient


class ChangedClient:
    """Is `client`, but for the methods that a subclass has."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        """Everything else is the client's own."""
        return getattr(self._client, name)
