"""Conversion of Prefect's times to Python's `datetime`."""

from datetime import datetime


def plain(at: datetime) -> datetime:
    """Convert a time of Prefect's to a plain `datetime`.

    On Python 3.11 and 3.12 Prefect returns pendulum's type, whose `replace` and other members give
    warnings from Prefect 3.9 on. Remove this function when Prefect returns plain times.
    """
    return datetime.fromisoformat(at.isoformat())
