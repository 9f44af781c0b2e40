"""Several columns, and numbers of other kinds, in Parquet and npy; and files that hold none."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.averages.markers import without_markers
from tasks.averages.reading.place import BLOCK
from tasks.storage.inputs.local import find_local
from tests.tasks.averages.test_sums import ONE_BLOCK, average, refusal


def write(path: Path, columns: dict[str, Any], index: list[str] | None = None) -> None:
    table = pa.table(columns)
    if index is not None:
        pandas = json.dumps({"index_columns": index, "columns": []}).encode()
        table = table.replace_schema_metadata({b"pandas": pandas})
    cast(Any, pq).write_table(table, path, row_group_size=1_000)


def test_columns_of_parquet(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": [1.5, 2.5], "who": ["u", "v"], "n": [3, 4]})
    said = 'a.parquet has 3 columns (x, who, n): submit with "column": "x", or "*" for all'
    assert refusal(tmp_path).startswith(said)
    assert average(tmp_path, column="n")[0].tolist() == [3, 4]
    assert average(tmp_path, column="3")[0].tolist() == [3, 4]
    assert refusal(tmp_path, column="*") == (
        "a.parquet holds string, not numbers: write it as float64"
    )
    assert "has no column z, but x, who, n: " in refusal(tmp_path, column="z")
    assert "has no column 4, but x, who, n: " in refusal(tmp_path, column="4")


def test_every_column_row_after_row(tmp_path: Path) -> None:
    table = np.random.default_rng(3).random((BLOCK, 3))
    write(tmp_path / "a.parquet", {name: table[:, n].copy() for n, name in enumerate("zax")})
    np.save(tmp_path / "b.npy", table)
    np.save(tmp_path / "c.npy", np.asfortranarray(table))
    (tmp_path / "d.csv").write_text("\n".join(",".join(map(repr, r)) for r in table.tolist()))
    means, progress = average(tmp_path, column="*", memory=ONE_BLOCK)
    np.testing.assert_array_equal(means, table.ravel())
    assert {each.columns for each in progress.read_as} == {3}
    means, _ = average(tmp_path, column="2", memory=ONE_BLOCK)
    np.testing.assert_array_equal(means, table[:, 1])


def test_the_index_of_pandas(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"v": [1.5, 2.5], "__index__": [7, 8]}, ["__index__"])
    means, progress = average(tmp_path)
    assert means.tolist() == [1.5, 2.5]
    assert progress.read_as[0].index == "__index__"
    assert average(tmp_path, column="__index__")[0].tolist() == [7, 8]
    write(tmp_path / "a.parquet", {"v": [1.5], "w": [2.5]}, [])
    assert refusal(tmp_path).startswith("a.parquet has 2 columns (v, w): ")


DECIMALS_AND_OTHERS: list[Any] = [
    (pa.array([Decimal("1.10"), Decimal("-2.25")], pa.decimal128(5, 2)), [1.1, -2.25]),
    (pa.array([Decimal("0.1"), Decimal("1e30")], pa.decimal256(50, 3)), [0.1, 1e30]),
    (
        pa.array([Decimal("12345678901234567.123456789")], pa.decimal128(38, 9)),
        [12345678901234567.123456789],
    ),
    (pa.array([1.5, 2.5], pa.float16()), [1.5, 2.5]),
    (pa.array([1, 2], pa.uint64()), [1, 2]),
    (cast(Any, pa.array([3, 4, 3])).dictionary_encode(), [3, 4, 3]),
]


@pytest.mark.parametrize(("numbers", "means"), DECIMALS_AND_OTHERS)
def test_kinds_of_numbers_in_parquet(tmp_path: Path, numbers: Any, means: list[float]) -> None:
    write(tmp_path / "a.parquet", {"v": numbers})
    assert average(tmp_path)[0].tolist() == means


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.int64(), pa.decimal128(9, 3), pa.uint8(), pa.null()]
)
def test_nulls_of_parquet(tmp_path: Path, kind: Any) -> None:
    numbers = [None, None] if kind == pa.null() else [Decimal(3), None]
    write(tmp_path / "a.parquet", {"v": pa.array(numbers).cast(kind)})
    write(tmp_path / "b.parquet", {"v": [5.0, 7.0]})
    means, progress = average(tmp_path, refuse=False)
    assert means.tolist() == [5.0 if kind == pa.null() else 4.0, 7]
    assert progress.missing == (2 if kind == pa.null() else 1)
    row = 1 if kind == pa.null() else 2
    assert refusal(tmp_path).startswith(f"a.parquet: row {row} is null: write a number there")


def test_an_integer_beyond_float64_beside_a_null(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"v": pa.array([None, 2**53 + 1])})
    assert "number 2 is 9007199254740993, beyond the integers" in refusal(tmp_path, refuse=False)
    write(tmp_path / "a.parquet", {"v": [1], "w": [2**53 + 1]})
    assert "beyond the integers" in refusal(tmp_path, column="*")


def test_shapes_of_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    said = 'a.npy has the shape (2, 3): submit with "column": "1", or "*" for all, row after row'
    assert refusal(tmp_path) == said
    assert average(tmp_path, column="2")[0].tolist() == [1, 4]
    assert "has no column 4, but 3 without names" in refusal(tmp_path, column="4")
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2)))
    assert refusal(tmp_path, column="*").startswith("a.npy has the shape (2, 2, 2)")
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    assert refusal(tmp_path, column="*").startswith("a.npy holds no number")
    np.save(tmp_path / "a.npy", np.arange(3))
    assert average(tmp_path, column="1")[0].tolist() == [0, 1, 2]
    np.save(tmp_path / "a.npy", np.zeros((2, 2), complex))
    assert refusal(tmp_path, column="1").startswith("a.npy holds complex128, not numbers")


@pytest.mark.parametrize("name", ["Ω", "size"])  # written as npy 3.0 and 1.0
def test_records_of_npy(tmp_path: Path, name: str) -> None:
    records = np.array([(1, 1.5), (2, 2.5)], [("n", "<i4"), (name, "<f8")])
    if name == "Ω":
        with pytest.warns(UserWarning, match=r"3\.0"):
            np.save(tmp_path / "a.npy", records)
    else:
        np.save(tmp_path / "a.npy", records)
    assert refusal(tmp_path).startswith(f"a.npy has the columns n, {name}: submit with")
    assert average(tmp_path, column=name)[0].tolist() == [1.5, 2.5]
    assert average(tmp_path, column="*")[0].tolist() == [1, 1.5, 2, 2.5]


def test_a_plain_array_in_npy_3(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.5, 2.5]))
    data = (tmp_path / "a.npy").read_bytes()
    length = int.from_bytes(data[8:10], "little")
    header, numbers = data[10 : 10 + length], data[10 + length :]
    long = b"\x93NUMPY\x03\x00" + length.to_bytes(4, "little") + header + numbers
    (tmp_path / "a.npy").write_bytes(long)
    assert average(tmp_path)[0].tolist() == [1.5, 2.5]
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x09\x00" + data[8:])
    assert "is written in version 9.0 of npy" in refusal(tmp_path)


def test_compressed_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.npy.gz").write_bytes(b"")
    assert refusal(tmp_path) == "a.npy.gz is compressed, and no text: decompress it"


def test_objects_in_npy_are_not_called_damaged(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.5, None], object), allow_pickle=True)
    assert refusal(tmp_path) == "a.npy holds Python objects, not numbers: write it as float64"


def test_damaged_page_is_found_where_the_file_has_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    numbers = np.random.default_rng(1).random(10_000)
    table = pa.table({"v": numbers.tolist()})
    # As Spark writes them; without, a changed byte of a number is a number too.
    cast(Any, pq).write_table(table, path, compression="none", write_page_checksum=True)
    assert average(tmp_path)[0].tolist() == numbers.tolist()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = refusal(tmp_path)
    assert said.startswith("a.parquet is not readable as Parquet: ")
    assert "checksum" in said


def test_column_that_is_proposed_holds_numbers(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"who": ["u"], "lists": [[1.0]], "v": [1.5]})
    assert refusal(tmp_path).startswith(
        'a.parquet has 3 columns (who, lists, v): submit with "column": "v", or "*" for all'
    )
    write(tmp_path / "a.parquet", {})
    assert refusal(tmp_path) == "a.parquet has no column: write one of numbers"


def test_what_spark_leaves(tmp_path: Path) -> None:
    names = [
        "out/_SUCCESS", "out/part-0.csv", "out/.part-0.csv.crc", "out/_committed_123",
        "out/_temporary/0/part-0.csv", "out/_delta_log/0.json", "_1.csv", "_metadata",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    files, marks = without_markers(find_local("**", tmp_path))
    assert [file.name for file in files] == ["_1.csv", "out/part-0.csv"]
    assert marks == [
        "_metadata", "out/_SUCCESS", "out/_committed_123", "out/_delta_log/0.json",
        "out/_temporary/0/part-0.csv",
    ]  # fmt: skip
