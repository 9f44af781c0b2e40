"""Counts files by layout, and checks that their columns agree."""

from collections.abc import Iterable
from typing import Any

from tasks.averages.reading.place import Layout
from tasks.errors import UnreadableInput

_DIGESTS = {"names", "names_in_any_order"}


class ReadAs(Layout, frozen=True):
    """A layout, and the files that were read with it."""

    files: int
    first: str
    """The name of the first file."""


def count(places: Iterable[tuple[str, Layout]]) -> list[ReadAs]:
    """Count files by layout, in the order of each layout's first file."""
    files: dict[Layout, int] = {}
    firsts: dict[Layout, str] = {}
    for name, layout in places:
        files[layout] = files.get(layout, 0) + 1
        firsts.setdefault(layout, name)
    return [
        ReadAs(**layout.model_dump(), files=number, first=firsts[layout])
        for layout, number in files.items()
    ]


def check_alike(found: Iterable[ReadAs], length: int) -> None:
    """Raise UnreadableInput where files differ in the number or the order of their columns.

    `length`: numbers in each file. A file of one row counts as a file of one column.
    """
    width: ReadAs | None = None
    orders: dict[str, ReadAs] = {}
    for one in found:
        if 1 < one.columns < length:
            width = width or one
            if one.columns != width.columns:
                raise UnreadableInput(
                    f"{width.first} has rows of {width.columns:,} numbers, and {one.first} of "
                    f"{one.columns:,}: give every file the same columns"
                )
        if one.names and one.names_in_any_order:
            other = orders.setdefault(one.names_in_any_order, one)
            if other.names != one.names:
                raise UnreadableInput(
                    f"{one.first} has the columns of {other.first} in another order: give them the "
                    'same, or submit with "column": one of them'
                )


def summarized(found: Iterable[ReadAs]) -> list[dict[str, Any]]:
    """Summarize layouts for the UI: without empty fields, and merged where only names differ."""
    kinds: dict[str, dict[str, Any]] = {}
    for one in found:
        said = one.model_dump(exclude=_DIGESTS | {"files", "first"}, exclude_none=True)
        kind = kinds.setdefault(repr(said), {"files": 0, "first": one.first, **said})
        kind["files"] += one.files
    return list(kinds.values())


def described(kind: dict[str, Any]) -> str:
    """One line of markdown for an entry of `summarized`."""
    columns = f"column {kind['column']}" if "column" in kind else f"{kind['columns']:,} columns"
    if "column" not in kind and kind["columns"] == 1:
        columns = "1 column"
    parts = [columns]
    if delimiter := kind.get("delimiter"):
        parts.append(f"delimiter `{delimiter}`")
    if kind.get("decimal") == ",":
        parts.append("decimal commas")
    if header := kind["header"]:
        parts.append("a header line" if header == 1 else f"{header} header lines")
    if index := kind.get("index"):
        parts.append(f"without the index ({index})")
    parts += [kind[each] for each in ("compression",) if each in kind]
    if kind.get("encoding", "utf-8") != "utf-8":
        parts.append(kind["encoding"])
    files = f"{kind['files']:,} file{'s' * (kind['files'] != 1)}"
    return f"{files} of {kind['format']}: {', '.join(parts)}"
