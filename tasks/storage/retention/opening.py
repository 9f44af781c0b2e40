"""Opens the results of the root that the settings name, to list and remove them."""

from pathlib import Path

from tasks.settings import Settings
from tasks.storage.results.opening import s3_connection
from tasks.storage.retention.local import LocalRetention
from tasks.storage.retention.records import Retention
from tasks.storage.retention.s3 import S3Retention


def open_retention(settings: Settings) -> Retention:
    """The results. S3 is called only when a method is used."""
    if isinstance(settings.results, Path):
        return LocalRetention(settings.results)
    return S3Retention(settings.results, s3_connection(settings))
