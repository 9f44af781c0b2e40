"""A request of a run, and how its fields are read."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.containers.broker import http
from tasks.containers.broker.http import Refused, Request
from tasks.containers.broker.runs import Run

_M = TypeVar("_M", bound=BaseModel)


@dataclass
class Asked:
    """A request of a run, with the connection to answer it."""

    run: Run
    request: Request
    client: asyncio.StreamWriter
    groups: tuple[str, ...]
    """The parts of its path that the groups of its rule match."""
    answered: bool = False
    """Whether an answer has begun."""

    async def answer(self, status: int, body: Any = None) -> None:
        """Answer with JSON."""
        self.answered = True
        self.client.write(http.answer(status, body))
        await self.client.drain()

    def only(self, names: Collection[str]) -> None:
        """Raise Refused where the query has another name than these."""
        for name in self.request.query.keys() - set(names):
            raise Refused(403, f"the query cannot have {name[:100]}")

    async def parsed(self, model: type[_M]) -> _M:
        """The body as a model. Raises Refused for any other."""
        body = await self.request.json()
        try:
            return model.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])[:200]
            raise Refused(403, f"{where} is not allowed: {first['msg']}") from None

    @contextlib.asynccontextmanager
    async def until_gone(self) -> AsyncGenerator["asyncio.Task[None]"]:
        """A task that ends when the client closes, once the body has been read."""
        gone = asyncio.create_task(_gone(self.request.reader))
        try:
            yield gone
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


def filters(text: str) -> dict[str, set[str]]:
    """The filters of a query, each with its values. Raises Refused for any other text."""
    listed = http.object_of(text, "filters")
    if not all(isinstance(values, list) for values in listed.values()):
        raise Refused(400, "a filter must be a list of texts")
    return {name: {str(one) for one in values} for name, values in listed.items()}


async def _gone(reader: asyncio.StreamReader) -> None:
    # The client has nothing else to send: this is its end, or a second request.
    with contextlib.suppress(OSError):
        await reader.read(1)
