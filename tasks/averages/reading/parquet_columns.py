"""Reads columns of Parquet files as float64, row after row."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from tasks.averages.reading.columns import choice, find_column, with_names
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.floats import as_floats, checked
from tasks.averages.reading.place import (
    BLOCK,
    EVERY_COLUMN,
    WRITE_A_NUMBER,
    Layout,
    Options,
    Place,
    Rules,
)
from tasks.errors import UnreadableInput


class _Pandas(BaseModel):
    """The metadata that pandas writes to a Parquet file."""

    index_columns: list[Any] = []
    """Names of columns; not a name where the index is not a column."""


@dataclass(frozen=True)
class Columns:
    """The columns to read."""

    names: Sequence[str]
    layout: Layout


def choose_columns(file: pq.ParquetFile, name: str, options: Options) -> Columns:
    """Choose the columns. Raises UnreadableInput where the choice is not clear, or not numbers."""
    schema = file.schema_arrow
    index = [each for each in _index(schema) if each in schema.names]
    names = [each for each in schema.names if each not in index]
    wanted = options.column
    if wanted is None or wanted == EVERY_COLUMN:
        if len(names) != 1 and wanted is None:
            if not names:
                raise UnreadableInput(f"{name} has no column: write one of numbers")
            listed = ", ".join(names[:5])
            kinds = dict(zip(schema.names, schema.types, strict=True))
            numbers = [each for each in names if _is_number(kinds[each])]
            raise UnreadableInput(
                f"{name} has {len(names)} columns ({listed}): {choice(numbers or names)}"
            )
        layout = Layout(
            format="parquet",
            columns=len(names),
            index=", ".join(index) or None,
        )
        layout = with_names(layout, names)
        chosen = names
    else:
        # A column's number counts all columns of the file, the index included.
        chosen = [schema.names[find_column(wanted, schema.names, len(schema.names), name)]]
        layout = Layout(format="parquet", columns=1, column=wanted)
    for each in chosen:
        if schema.names.count(each) > 1:
            raise UnreadableInput(f"{name} has more than one column {each}: give each its own name")
        if not _is_number(kind := schema.types[schema.names.index(each)]):
            raise UnreadableInput(f"{name} holds {kind}, not numbers: write it as float64")
    return Columns(chosen, layout)


def parquet_blocks(
    file: pq.ParquetFile, columns: Columns, name: str, place: Place, most: int, rules: Rules
) -> Generator[Floats]:
    """Yield up to `most` numbers from `place` on. Raises UnreadableInput for a refused number."""
    width = len(columns.names)
    start, stop = place.number // width, -(-(place.number + most) // width)  # rows
    begin, groups = 0, list[int]()
    at = 0  # the first row in the first of the groups
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if begin + rows > start and begin < stop:
            if not groups:
                at = begin
            groups.append(group)
        begin += rows
    if not groups:
        return
    batches = cast(Any, file).iter_batches(
        max(BLOCK // width, 1), row_groups=groups, columns=list(columns.names), use_threads=False
    )
    for batch in batches:
        low, high = max(start - at, 0), min(stop - at, len(batch))
        if low < high:
            part = batch.slice(low, high - low)
            # By name: the batch has the columns in the file's order.
            found = [
                _floats(part.column(part.schema.get_field_index(each)), name, at + low, rules)
                for each in columns.names
            ]
            numbers = found[0] if width == 1 else np.stack(found, 1).ravel()
            first = (at + low) * width
            numbers = numbers[max(place.number - first, 0) : place.number + most - first]
            yield checked(numbers, rules)
        at += len(batch)


def _index(schema: pa.Schema) -> list[str]:
    """The columns that pandas wrote as its index."""
    try:
        pandas = _Pandas.model_validate_json((schema.metadata or {}).get(b"pandas", b"{}"))
    except ValidationError:  # not written by pandas
        return []
    return [each for each in pandas.index_columns if isinstance(each, str)]


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = cast(Any, kind).value_type
    return (
        types.is_floating(kind)
        or types.is_integer(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def _floats(column: Any, name: str, start: int, rules: Rules) -> Floats:
    """A column's numbers; a null that the rules do not refuse becomes not-a-number."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    missing: NDArray[np.bool_] | None = None
    if column.null_count:
        missing = cast(NDArray[np.bool_], column.is_null().to_numpy(zero_copy_only=False))
        if rules.refuse:
            index = int(np.flatnonzero(missing)[0])
            raise UnreadableInput(f"{name}: row {start + index + 1:,} is null: {WRITE_A_NUMBER}")
        if pa.types.is_null(column.type):
            return np.full(len(column), np.nan)
        if pa.types.is_integer(column.type):
            # They stay integers, so that integers beyond float64's precision are found.
            column = cast(Any, pc).fill_null(column, pa.scalar(0, column.type))
    if pa.types.is_decimal(column.type):
        # Through text, which Arrow reads to the nearest float64; its direct cast is not exact.
        column = column.cast(pa.string()).cast(pa.float64())
    numbers = as_floats(column.to_numpy(zero_copy_only=False), name, start)
    if missing is not None:
        numbers = np.where(missing, np.nan, numbers)
    return numbers
