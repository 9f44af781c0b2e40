"""The application of the gateway: its REST API, version 1."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx
from fastapi import FastAPI

from deployments.connection import connect
from deployments.gateway import inputs, jobs, logs, many, results
from deployments.gateway.errors import add_handlers
from deployments.gateway.events import routes
from deployments.gateway.events.routes import Events
from deployments.gateway.events.streams import Places
from deployments.gateway.logs import MOST_FOLLOWED
from deployments.gateway.page import overview, pictures, published, sign_in, site, story
from deployments.gateway.quotas import Quota
from deployments.gateway.requests import Message
from deployments.gateway.schedules import routes as schedules
from deployments.gateway.schedules.kept import Schedules
from deployments.gateway.schedules.runner import Runner
from deployments.gateway.uploads.opening import open_store, open_uploads
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.users.access import Access
from deployments.gateway.users.audit import AuditLog
from deployments.gateway.users.sessions import Sessions
from deployments.gateway.users.tokens import Tokens
from deployments.retention.use import ResultsUse
from tasks.errors import PrefectureError
from tasks.settings import Settings
from tasks.storage.retention.opening import open_retention

VERSION = "/v1"
"""Begins the paths of this version."""
_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The application. It reads the tokens of the settings' home, and logs actions there."""

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncGenerator[None]:
        async with connect() as client:
            app.state.client = client
            runner = Runner(app, client, settings.home, tokens, audit)
            in_background = [
                asyncio.create_task(_probe(app.state.uploads)),
                asyncio.create_task(runner.run()),
            ]
            yield
            for task in in_background:
                task.cancel()
            await app.state.events.watcher.stop()

    app = FastAPI(
        title="Prefecture",
        version=version("prefecture"),
        lifespan=connected,
        # Their pages load scripts of other origins: page/site.py has one of our own.
        docs_url=None,
        redoc_url=None,
    )
    audit = AuditLog(settings.home / "logs" / "audit.jsonl")
    tokens = Tokens(settings.home)
    sessions = Sessions(settings.home, tokens)
    app.state.access = Access(tokens, sessions, audit, settings.gateway_rate)
    app.state.overview = overview.Overviews()
    app.state.settings = settings
    app.state.schedules = Schedules(settings.home, settings.gateway_schedules)
    most = settings.gateway_results
    app.state.quota = Quota(
        settings.gateway_jobs,
        ResultsUse(open_retention(settings)),
        None if most is None else int(most),
    )
    app.state.uploads = open_uploads(settings, open_store(settings))
    app.state.events = Events(settings)
    app.state.followed_logs = Places(settings.gateway_streams, MOST_FOLLOWED)
    add_handlers(app)
    of_jobs = (jobs, many, schedules, logs, routes, story)
    of_files = (results, published, pictures, inputs)
    for part in (*of_jobs, *of_files, overview, sign_in):
        app.include_router(part.router, prefix=VERSION)
    app.include_router(site.router)
    app.add_api_route("/health", health, include_in_schema=False)
    return app


async def _probe(uploads: Uploads) -> None:
    """Say at the start why files cannot be kept. It is tried anew with each upload: the credentials
    may be saved while the gateway runs."""
    try:
        await uploads.in_background(uploads.store.probe)
    except (PrefectureError, httpx.HTTPError) as error:
        _log.warning("no file can be uploaded for now: %s", error)


def end_streams(app: FastAPI) -> None:
    """End the responses that would not end by themselves: the application is about to stop."""
    app.state.events.streams.end_all()
    app.state.followed_logs.closing.set()


async def health() -> Message:
    """Answer, without a token, that the gateway is there."""
    return Message(message="ok")
