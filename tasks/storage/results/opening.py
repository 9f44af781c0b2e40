"""Opens the results root that the settings name."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.settings import Settings
from tasks.storage.credentials import s3_client
from tasks.storage.results.interface import ResultsRoot
from tasks.storage.results.local import LocalRoot
from tasks.storage.results.s3 import S3Root

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def open_results(settings: Settings) -> ResultsRoot:
    """Return the results root. It calls Prefect and S3 only when one of its methods is used."""
    if isinstance(settings.results, Path):
        return LocalRoot(settings.results)
    return S3Root(settings.results, settings.scratch, s3_connection(settings))


def s3_connection(settings: Settings) -> "Callable[[], S3Client]":
    """What connects to S3, with the credentials of the settings, when it is called."""
    return partial(_connect, settings.s3_credentials)


def _connect(credentials: str | None) -> "S3Client":
    # The root's methods run in threads, which have no event loop.
    return asyncio.run(s3_client(credentials))
