"""The environment of Prefect's server, and of its background services where they run apart.

What one server does alone, several do through Redis. Each of these settings is needed: without the
order of events in Redis, for example, states arrive a quarter of an hour late.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tasks.errors import OperatorError
from tasks.settings import Settings, server_environment

DATABASE_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Variable with the address of the server's database."""
DOCKET_URL = "PREFECT_SERVER_DOCKET_URL"
"""Variable with the address of the Redis of the periodic services."""
SQLITE_PLUGIN = "prefecture"
"""The name of `sqlite.TakesTurns` in a database URL, and of its entry point in pyproject.toml."""

_DATABASE = ("CONNECTION_URL", "DRIVER", "HOST", "NAME")  # settings that choose a database
_USUAL = {
    # Instead of Prefect's week: events are four fifths of the data that a job writes into the
    # database, and are read within minutes. Set the variable to keep them longer.
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P1D",
    # Instead of an hour: Prefect plans the runs of schedules for this time, and there is a schedule
    # of every minute. Prefect's scheduler runs every minute.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT10M",
    # Instead of 5 s, as often as a worker polls: the server would close a connection at the moment
    # that a client writes into it. Prefect's clients close idle ones themselves after 25 s.
    "PREFECT_SERVER_API_KEEPALIVE_TIMEOUT": "30",
    # Tries, every 5 s, to store events: instead of 25 s, after which they would be dropped, they
    # wait ten minutes for the database. At most 50,000 of them.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES": "120",
}
_FIXED = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The service renames each job that has waited for 15 s, one by one: with a thousand of them
    # SQLite is locked all the time, and the log grows by megabytes a minute.
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    # Otherwise the UI calls port 4200, whichever port it is served on.
    "PREFECT_UI_API_URL": "/api",
    "DO_NOT_TRACK": "1",
}
_THROUGH_REDIS = {
    "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
    "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
    # At once, not up to five together after 10 s: a killed server loses what it still holds.
    "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
    "PREFECT_REDIS_MESSAGING_PUBLISHER_PUBLISH_EVERY": "1",
    # Seconds. By default for ever, where packets are dropped: with a transaction held meanwhile.
    # Longer than the second for which readers of events wait.
    **{
        f"PREFECT_REDIS_{part}_{name}": value
        for part in ("MESSAGING", "WORKER_CLEANUP_QUEUE")
        for name, value in (("SOCKET_TIMEOUT", "5"), ("SOCKET_CONNECT_TIMEOUT", "2"))
    },
}
_REDIS_URLS = (
    *("PREFECT_REDIS_MESSAGING_URL", "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL"),
    DOCKET_URL,
)
_APART = {
    # `prefecture migrate` has done both, once for all servers.
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_BLOCKS_REGISTER_ON_START": "false",
}


def environment(settings: Settings, *, apart: bool = False) -> dict[str, str]:
    """The environment of a server, with the operator's own PREFECT_SERVER_* and PREFECT_REDIS_*.

    `apart`: one of several servers, or the background services. Raises OperatorError where an
    address cannot be used.
    """
    redis = _redis(settings) if settings.redis_url else {}
    own = server_environment(**_FIXED)
    found = _USUAL | redis | (_APART if apart else {}) | own
    if not _names_database(found):
        found[DATABASE_URL] = _database(settings)
    return found


def sqlite_url(file: str) -> str:
    """The database URL of an SQLite file, with the plugin under which writers take turns."""
    return f"sqlite+aiosqlite:///{file}?plugin={SQLITE_PLUGIN}"


def prefect_home(settings: Settings) -> Path:
    """The folder in which Prefect keeps the server's database and its own settings."""
    return settings.home / "prefect"


def own_database(settings: Settings) -> Path:
    """The SQLite database of a server for which the operator names no other."""
    return prefect_home(settings) / "prefect.db"


def is_shared(environment: Mapping[str, str]) -> bool:
    """Whether several servers may run with an environment: with a database and a Redis of their
    own."""
    database = environment.get(DATABASE_URL, "")
    return not database.startswith("sqlite") and DOCKET_URL in environment


def _names_database(environment: Mapping[str, str]) -> bool:
    return any(f"PREFECT_SERVER_DATABASE_{name}" in environment for name in _DATABASE)


def _database(settings: Settings) -> str:
    if settings.database_url is None:
        return sqlite_url(str(own_database(settings)))
    given = settings.database_url.get_secret_value()
    scheme, colon, rest = given.partition(":")
    if scheme not in ("postgresql", "postgres") or not colon:
        raise OperatorError(
            "PREFECTURE_DATABASE_URL: use postgresql://user:password@host/name: Prefect's server "
            "runs on PostgreSQL and SQLite"
        )
    return f"postgresql+asyncpg:{rest}"


def _redis(settings: Settings) -> dict[str, str]:
    assert settings.redis_url
    given = settings.redis_url.get_secret_value()
    if urlsplit(given).scheme not in ("redis", "rediss", "redis+sentinel", "rediss+sentinel"):
        raise OperatorError(
            "PREFECTURE_REDIS_URL: use redis://user:password@host:6379/0, or rediss:// with TLS"
        )
    return _THROUGH_REDIS | dict.fromkeys(_REDIS_URLS, given)
