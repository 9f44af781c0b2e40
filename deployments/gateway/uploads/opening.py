"""Opens the files of users where the settings have them."""

from deployments.gateway.uploads.disk import DiskStore
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.uploads.s3 import S3Store
from deployments.gateway.uploads.store import Store
from tasks.settings import Settings
from tasks.storage.results.opening import s3_connection


def open_store(settings: Settings) -> Store:
    """Where whole files are. S3 is called only when a method is used."""
    if settings.uploads_root is None:
        return DiskStore(settings.inputs)
    return S3Store(settings.uploads_root, s3_connection(settings))


def open_uploads(settings: Settings, store: Store) -> Uploads:
    """What is being uploaded to a store."""
    return Uploads(
        store, settings.inputs, int(settings.gateway_inputs), int(settings.min_free_disk)
    )
