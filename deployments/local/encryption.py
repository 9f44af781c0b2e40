"""The key with which the embedded server encrypts the values of blocks, in a file of its own.

Prefect would keep the key in the database, beside the values: a copy of the database, such as a
backup, would hold every secret in readable form.
"""

import json
import os
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from deployments.server.environment import DATABASE_URL, own_database, sqlite_url
from tasks.settings import Settings, write_private_file

FILE = "encryption.key"
"""The file's name in a home."""
_KEY = "PREFECT_SERVER_ENCRYPTION_KEY"
# Where Prefect keeps a key that it has made itself.
_ROW = "FROM configuration WHERE key = 'ENCRYPTION_KEY'"


def key_setting(settings: Settings, server: Mapping[str, str]) -> dict[str, str]:
    """The setting with the key for a server with the environment `server`; makes the key of a new
    home, and takes that of an earlier version out of the database. The server must not run. Empty
    where the operator gives a key, or a database of their own: the key is theirs, or in it."""
    own = own_database(settings)
    if _KEY in server or server.get(DATABASE_URL) != sqlite_url(str(own)):
        return {}
    file = settings.home / FILE
    kept = _key_in(own) if own.exists() else None
    if not file.exists():
        # As Fernet has it.
        write_private_file(file, kept or urlsafe_b64encode(os.urandom(32)))
    if kept == file.read_bytes():
        _forget_key_in(own)
    return {_KEY: file.read_text()}


def _key_in(database: Path) -> bytes | None:
    """The key that Prefect keeps in a database; None where it keeps none."""
    with closing(sqlite3.connect(database)) as connection:
        try:
            found = connection.execute(f"SELECT value {_ROW}").fetchone()
        except sqlite3.OperationalError:  # a database without tables has no secrets either
            return None
    return json.loads(found[0])["fernet_key"].encode() if found else None


def _forget_key_in(database: Path) -> None:
    """Remove the key from a database, and what is left of it in the file."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        with connection:
            connection.execute(f"DELETE {_ROW}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
