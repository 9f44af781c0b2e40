"""Times as Python's own, whichever library made them."""

from datetime import datetime


def plain(at: datetime) -> datetime:
    """A time of Prefect's as one of Python's own.

    On Python 3.11 and 3.12 Prefect hands out pendulum's, whose `replace` and other members it warns
    of from 3.9 on. Drop this when it does so no more.
    """
    return datetime.fromisoformat(at.isoformat())
