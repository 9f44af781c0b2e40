"""What Prefect's server is told where several of them run, and where one runs alone."""

import importlib
import os
import pkgutil
from pathlib import Path
from typing import Any

import prefect_redis  # pyright: ignore[reportMissingTypeStubs]
import pytest
from prefect.settings.base import PrefectBaseSettings
from prefect.settings.models.server.concurrency import ServerConcurrencySettings
from prefect.settings.models.server.docket import ServerDocketSettings
from prefect.settings.models.server.events import ServerEventsSettings
from prefect.settings.models.server.services import ServerServicesEventPersisterSettings
from prefect_redis.cleanup_queue import (  # pyright: ignore[reportMissingTypeStubs]
    RedisWorkerCleanupQueueSettings,
)
from prefect_redis.client import (  # pyright: ignore[reportMissingTypeStubs]
    RedisMessagingSettings,
)
from prefect_redis.messaging import (  # pyright: ignore[reportMissingTypeStubs]
    RedisMessagingPublisherSettings,
)

from deployments.server.environment import DATABASE_URL, environment, is_shared
from tasks.errors import OperatorError
from tasks.settings import Settings

REDIS = "redis://:secret@redis.example:6379/0"
POSTGRES = "postgresql://prefect:secret@db.example/prefect"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("PREFECT_SERVER_", "PREFECT_REDIS_")):
            monkeypatch.delenv(name)


def of(home: Path, *, apart: bool = False, **given: Any) -> dict[str, str]:
    return environment(Settings(home=home, **given), apart=apart)


def test_one_server_alone_needs_no_redis(tmp_path: Path) -> None:
    alone = of(tmp_path)
    assert alone[DATABASE_URL].startswith("sqlite+aiosqlite:///")
    assert not [name for name in alone if "REDIS" in name]
    assert not is_shared(alone)


def test_everything_goes_through_the_one_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = of(tmp_path, apart=True, database_url=POSTGRES, redis_url=REDIS)
    assert is_shared(several)
    assert several[DATABASE_URL] == POSTGRES.replace("postgresql:", "postgresql+asyncpg:")
    for name, value in several.items():
        monkeypatch.setenv(name, value)
    events, publisher = ServerEventsSettings(), RedisMessagingPublisherSettings()
    assert {events.messaging_broker, events.messaging_cache} == {"prefect_redis.messaging"}
    assert events.causal_ordering == "prefect_redis.ordering"
    assert ServerConcurrencySettings().lease_storage == "prefect_redis.lease_storage"
    assert publisher.batch_size == 1
    assert ServerServicesEventPersisterSettings().max_flush_retries > 5
    messaging, queue = RedisMessagingSettings(), RedisWorkerCleanupQueueSettings()
    assert {messaging.url, queue.url, ServerDocketSettings().url} == {REDIS}
    for one in (messaging, queue):
        assert one.socket_timeout
        assert one.socket_connect_timeout


def test_every_part_with_an_address_of_its_own_is_given_it() -> None:
    """Another one would look for Redis on its own host."""
    parts: set[type] = set()
    for module in pkgutil.iter_modules(prefect_redis.__path__, "prefect_redis."):
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and issubclass(found, PrefectBaseSettings):
                parts |= {found} if "url" in found.model_fields else set()
    assert parts == {RedisMessagingSettings, RedisWorkerCleanupQueueSettings}


def test_what_the_operator_sets_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE", "7")
    monkeypatch.setenv(DATABASE_URL, "postgresql+asyncpg://own.example/prefect")
    several = of(tmp_path, database_url=POSTGRES, redis_url=REDIS)
    assert several["PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE"] == "7"
    assert several[DATABASE_URL] == "postgresql+asyncpg://own.example/prefect"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "mysql://root:secret@db.example/prefect"),
        ("database_url", "db.example"),
        ("redis_url", "redis.example:6379"),
        ("redis_url", "redis+cluster://redis.example:6379"),
    ],
)
def test_an_address_of_another_kind_is_refused(tmp_path: Path, name: str, value: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(OperatorError, match=f"^PREFECTURE_{name.upper()}: use ") as refused:
        of(tmp_path, **given)
    assert "secret" not in str(refused.value)
