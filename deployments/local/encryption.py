"""The key with which the embedded server encrypts the values of blocks, in a file of its own.

Prefect would keep the key in the database, beside the values: a copy of the database, such as a
backup, would hold every secret in readable form.
"""

import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from deployments.server.environment import DATABASE_URL, own_database, sqlite_url
from tasks.settings import Settings, write_private_file

FILE = "encryption.key"
"""The file's name in a home."""
_KEY = "PREFECT_SERVER_ENCRYPTION_KEY"


def key_setting(settings: Settings, server: Mapping[str, str]) -> dict[str, str]:
    """The setting with the key for a server with the environment `server`; makes the key of a new
    home. Empty where the operator gives a key, or a database of their own, and where the home's
    database was made by an earlier version: the key is in it."""
    own = own_database(settings)
    if _KEY in server or server.get(DATABASE_URL) != sqlite_url(str(own)):
        return {}
    file = settings.home / FILE
    if not file.exists():
        if own.exists():
            return {}
        write_private_file(file, urlsafe_b64encode(os.urandom(32)))  # as Fernet has it
    return {_KEY: file.read_text()}
