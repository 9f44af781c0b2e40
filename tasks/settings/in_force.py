"""The settings of this process, and those of a run in it."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from tasks.settings.model import Settings


@cache
def get_settings() -> Settings:
    """The settings of this process, read once. Raises pydantic.ValidationError on a bad value."""
    return Settings()


_run_settings = ContextVar[Settings | None]("settings", default=None)


def run_settings() -> Settings:
    """The settings of the calling run: those of the process, unless `settings_in_force` is."""
    return _run_settings.get() or get_settings()


@contextmanager
def settings_in_force(settings: Settings) -> Generator[None]:
    """Let `run_settings` return these settings while the block runs."""
    token = _run_settings.set(settings)
    try:
        yield
    finally:
        _run_settings.reset(token)
