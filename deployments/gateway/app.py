"""The application of the gateway: its REST API, version 1."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from deployments.connection import connect
from deployments.gateway import inputs, jobs, logs, many, results
from deployments.gateway.access import Access
from deployments.gateway.audit import AuditLog
from deployments.gateway.errors import add_handlers
from deployments.gateway.events import routes
from deployments.gateway.events.routes import Events
from deployments.gateway.events.streams import Places
from deployments.gateway.logs import MOST_FOLLOWED
from deployments.gateway.requests import Message
from deployments.gateway.tokens import Tokens
from deployments.gateway.uploads import Uploads
from tasks.settings import Settings

VERSION = "/v1"
"""Begins the paths of this version."""


def create_app(settings: Settings) -> FastAPI:
    """The application. It reads the tokens of the settings' home, and logs actions there."""

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncGenerator[None]:
        async with connect() as client:
            app.state.client = client
            yield
            await app.state.events.watcher.stop()

    app = FastAPI(
        title="Prefecture",
        version=version("prefecture"),
        lifespan=connected,
        # Their pages load scripts of other origins.
        docs_url=None,
        redoc_url=None,
    )
    audit = AuditLog(settings.home / "logs" / "audit.jsonl")
    app.state.access = Access(Tokens(settings.home), audit, settings.gateway_rate)
    app.state.settings = settings
    app.state.uploads = Uploads(
        settings.inputs, int(settings.gateway_inputs), int(settings.min_free_disk)
    )
    app.state.events = Events(settings)
    app.state.followed_logs = Places(settings.gateway_streams, MOST_FOLLOWED)
    add_handlers(app)
    app.include_router(jobs.router, prefix=VERSION)
    app.include_router(many.router, prefix=VERSION)
    app.include_router(logs.router, prefix=VERSION)
    app.include_router(routes.router, prefix=VERSION)
    app.include_router(results.router, prefix=VERSION)
    app.include_router(inputs.router, prefix=VERSION)
    app.add_api_route("/health", health, include_in_schema=False)
    return app


def end_streams(app: FastAPI) -> None:
    """End the responses that would not end by themselves: the application is about to stop."""
    app.state.events.streams.end_all()
    app.state.followed_logs.closing.set()


async def health() -> Message:
    """Answer, without a token, that the gateway is there."""
    return Message(message="ok")
