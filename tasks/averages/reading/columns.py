"""Finds a column by its name, or by its number from 1 on."""

import hashlib
from collections.abc import Sequence

from tasks.averages.reading.place import EVERY_COLUMN, Layout
from tasks.errors import UnreadableInput

_SHOWN = 5


def find_column(wanted: str, names: Sequence[str], count: int, file: str) -> int:
    """Find the index of the wanted column, from 0 on.

    `names` is empty where columns have no names, `count` is 0 where it is not known yet. Raises
    UnreadableInput where there is no such column, or more than one of that name.
    """
    places = [place for place, name in enumerate(names) if name == wanted]
    if len(places) > 1:
        numbers = " or ".join(f'"{place + 1}"' for place in places[:2])
        raise UnreadableInput(
            f'{file} has more than one column {wanted}: submit with "column": {numbers}'
        )
    if places:
        return places[0]
    if (
        wanted.isascii()
        and wanted.isdigit()
        and int(wanted)
        and (int(wanted) <= count or not count)
    ):
        return int(wanted) - 1
    raise UnreadableInput(
        f"{file} has no column {wanted}, but {listed(names, count)}: "
        'submit with "column" one of them'
    )


def listed(names: Sequence[str], count: int) -> str:
    """List the columns in a few words."""
    if not names:
        return f"{count:,} without names" if count else "no line of names"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(name or '""' for name in names[:_SHOWN]) + more


def choice(names: Sequence[str]) -> str:
    """The cure for an error where a column has to be chosen."""
    example = next((name for name in names if name), "1")
    return f'submit with "column": "{example}", or "{EVERY_COLUMN}" for all, row after row'


def with_names(layout: Layout, names: Sequence[str]) -> Layout:
    """Add digests of the column names to a layout: they differ where the order differs."""
    if len(names) < 2:
        return layout
    digests = {"names": _digest(names), "names_in_any_order": _digest(sorted(names))}
    return layout.model_copy(update=digests)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode(errors="replace")).hexdigest()[:16]
