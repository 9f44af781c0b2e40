"""Serves an application at an address of this host and, with TLS, at a second one for others."""

import argparse
import asyncio
import resource
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from tasks.prefect_api.ending import end_in_time

_LAST = 5  # seconds at shutdown for requests; a websocket may never end by itself


@dataclass(frozen=True)
class Listeners:
    """Where a server listens."""

    address: str
    port: int
    names: tuple[str, ...] = ()
    """Further host names by which clients know it."""
    bind: str | None = None
    """The second address."""
    certificate: str | None = None
    """File with the certificate for the second address, as PEM. Without one, it has no TLS."""
    key: str | None = None


def parse(program: str, *flags: str) -> tuple[Listeners, frozenset[str]]:
    """Read the arguments of a server: ADDRESS PORT [--name NAME ...]
    [--bind ADDRESS [--certificate FILE --key FILE]]. Returns also those of `flags`, such as
    `--no-services`, that were given."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--name", dest="names", action="append", default=[])
    for name in ("--bind", "--certificate", "--key"):
        parser.add_argument(name)
    for flag in flags:
        parser.add_argument(flag, dest=flag, action="store_true")
    given: dict[str, Any] = vars(parser.parse_args())
    chosen = frozenset(flag for flag in flags if given.pop(flag))
    given["names"] = tuple(given["names"])
    return Listeners(**given), chosen


def serve(
    app: ASGIApp, at: Listeners, before_end: Callable[[], None] = lambda: None, **options: Any
) -> None:
    """Serve until SIGTERM or SIGINT. `options`: further ones of uvicorn; `before_end`: ends the
    responses that would not end by themselves.

    Ends the process with uvicorn's exit code where the application cannot start.
    """
    _open_many_files()
    configured = partial(
        uvicorn.Config, app, port=at.port, timeout_graceful_shutdown=_LAST, **options
    )
    inside = _Server(configured(host=at.address), before_end)
    outside = at.bind and _Beside(
        configured(
            host=at.bind,
            lifespan="off",  # once is enough
            ssl_certfile=at.certificate,
            ssl_keyfile=at.key,
        )
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises once more, when all is done
        asyncio.run(_serve(inside, outside or None))
    if not inside.started:
        sys.exit(STARTUP_FAILURE)


async def _serve(inside: uvicorn.Server, outside: uvicorn.Server | None) -> None:
    """Serve until a signal ends the first, and with it the second."""
    if outside is None:
        return await inside.serve()
    beside = asyncio.create_task(outside.serve())
    try:
        await inside.serve()
    finally:
        outside.should_exit = True
        await beside


class _Server(uvicorn.Server):
    """A server that calls `before_end` when it is told to end."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_end = before_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        end_in_time("server")
        self._before_end()
        await super().shutdown(sockets)


class _Beside(uvicorn.Server):
    """A server beside another one of this process, which alone hears signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """See uvicorn.Server."""
        yield


def _open_many_files() -> None:
    """Allow this process as many connections as the host does: each is a file, and by default it
    may open 1,024, after which it accepts nobody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
