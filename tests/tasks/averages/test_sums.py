"""Files of every format to means: the same bits in any number of threads and rounds."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tasks.averages.accumulator import BYTES_PER_NUMBER
from tasks.averages.progress import ReadProgress
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import BLOCK, Options, Rules
from tasks.averages.sums import sum_in_ranges
from tasks.errors import UnreadableInput
from tasks.storage.inputs.local import find_local

ONE_BLOCK = BLOCK * BYTES_PER_NUMBER  # bytes


def write_csv(path: Path, numbers: Iterable[float]) -> None:
    path.write_text("\n".join(map(repr, np.asarray(numbers, float).tolist())) + "\n")


def write_npy(path: Path, numbers: NDArray[np.generic]) -> None:
    np.save(path, numbers)


def write_columns(path: Path, *columns: Any) -> None:
    names = [f"column{number}" for number in range(len(columns))]
    arrays: list[Any] = [pa.array(column) for column in columns]
    table = pa.Table.from_arrays(arrays, names=names)
    cast(Any, pq).write_table(table, path, row_group_size=50_000)


def write_parquet(path: Path, numbers: Floats) -> None:
    write_columns(path, numbers)


WRITERS: dict[str, Callable[[Path, Floats], None]] = {
    "csv": write_csv,
    "npy": write_npy,
    "parquet": write_parquet,
}


def average(
    root: Path,
    source: str = "*",
    *,
    threads: int = 2,
    memory: int = 2**30,
    refuse: bool = True,
    **options: Any,
) -> tuple[Floats, ReadProgress]:
    files = find_local(source, root)
    progress = ReadProgress(len(files))

    async def run() -> list[Floats]:
        parts: list[Floats] = []
        rules = Rules(refuse=refuse, options=Options(**options))
        async for accumulator, length in sum_in_ranges(
            files, root, threads=threads, memory=memory, rules=rules, progress=progress
        ):
            parts += accumulator.means(len(files), length, threads)
        return parts

    return np.concatenate(asyncio.run(run())), progress


def refusal(root: Path, source: str = "*", **given: Any) -> str:
    with pytest.raises(UnreadableInput) as refused:
        average(root, source, **given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("length", [1, BLOCK, 2 * BLOCK + 17])
def test_every_format(tmp_path: Path, format: str, length: int) -> None:
    random = np.random.default_rng(length)
    rows = [random.standard_normal(length) for _ in range(7)]
    for number, row in enumerate(rows):
        WRITERS[format](tmp_path / f"{number}.{format}", row)
    means, progress = average(tmp_path)
    np.testing.assert_allclose(means, np.mean(rows, axis=0), rtol=1e-12, atol=1e-15)
    assert (progress.files_done, progress.length, progress.fraction()) == (7, length, 1.0)
    assert progress.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    for threads, memory in [(1, 2**30), (3, ONE_BLOCK), (1, ONE_BLOCK)]:
        again, _ = average(tmp_path, threads=threads, memory=memory)
        assert again.tobytes() == means.tobytes()


def test_formats_together(tmp_path: Path) -> None:
    rows = [np.random.default_rng(n).random(1000) for n in range(3)]
    for row, (format, write) in zip(rows, WRITERS.items(), strict=True):
        write(tmp_path / f"file.{format}", row)
    means, _ = average(tmp_path)
    np.testing.assert_allclose(means, np.mean(rows, axis=0), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i4", "<i8", "<u2"])
def test_other_types_of_numbers(tmp_path: Path, dtype: str) -> None:
    write_npy(tmp_path / "a.npy", np.arange(100).astype(dtype))
    write_npy(tmp_path / "b.npy", np.arange(100)[:, None] * 3.0)
    means, _ = average(tmp_path)
    assert means.tolist() == (np.arange(100) * 2.0).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "1\n2\n3",
        "value\n1\n2\n3\n",
        "\ufeff1\n2\n3\n",
        "1,2,3\n",
        " 1 ,2,\t3\r\n",
        "1\n2\n3\n\n \n\n",
        "temp 2\n1\n2\n3\n",
        'Value (m/s),"x 1",z\n1,2,3\n',
        "größe\t_b\t_c\n1\t2\t3\n",
        "1e0\n+2.0\n0003.000\n",
        "a,b,c\n1,2,3\n",
    ],
)
def test_ways_to_write_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    means, _ = average(tmp_path)
    assert means.tolist() == [1.0, 2.0, 3.0]


def test_a_long_line_and_long_numbers(tmp_path: Path) -> None:
    number = "0." + "1" * 400
    (tmp_path / "a.csv").write_text(",".join([number] * 10_000))
    means, _ = average(tmp_path, memory=ONE_BLOCK)
    assert means.tolist() == [float(number)] * 10_000


def test_skipped_where_asked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1\nnan\n3\n")
    write_npy(tmp_path / "b.npy", np.array([3.0, 5.0, np.inf]))
    write_columns(tmp_path / "c.parquet", [5.0, None, 9.0])
    means, _ = average(tmp_path, refuse=False)
    assert means.tolist() == [3.0, 5.0, 6.0]


@pytest.mark.parametrize(
    "text",
    [
        "1\n\n3\n4\n",  # as polars and pyarrow write a null
        "x\n1\n\n3\n4\n\n",
        "1\nNA\n3\n4\n",
        "1\nn/a\n3\n4\n",
        "1\nnull\n3\n4\n",
        '1\n""\n3\n4\n',
        "1\n\\N\n3\n4\n",
        "1,,3,4\n",
        "1,\n3,4\n",
        "1,NaN\n3,4\n",
    ],
)
def test_a_missing_number_leaves_the_others_in_their_places(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv").write_text("3\n5\n5\n6\n")
    means, _ = average(tmp_path, refuse=False)
    assert means.tolist() == [2.0, 5.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("\n\n3\n", [2.0, 3.0, 3.5]),
        (",,3\n", [2.0, 3.0, 3.5]),
        ("1,,\n", [1.5, 3.0, 4.0]),
        ("1,2,", [1.5, 2.5, 4.0]),
        ("1\n\n\n4\n", [1.5, 3.0, 4.0, 4.5]),
    ],
)
def test_missing_at_an_end(tmp_path: Path, text: str, means: list[float]) -> None:
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv").write_text("\n".join("2345"[: len(means)]))
    assert average(tmp_path, refuse=False)[0].tolist() == means


def test_many_missing_over_many_pieces(tmp_path: Path) -> None:
    count = 400_000
    lines = ["" if number % 3 == 1 else str(number) for number in range(count)]
    (tmp_path / "a.csv").write_text("x\n" + "\n".join(lines) + "\n")
    write_npy(tmp_path / "b.npy", np.arange(count, dtype=float))
    means, _ = average(tmp_path, refuse=False, memory=ONE_BLOCK)
    assert means.tolist() == np.arange(count, dtype=float).tolist()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n2\nthree\n", "bad.csv, line 3: 'three' is not a number"),
        ("1\n2\n3 4x\n", "bad.csv, line 3: '4x' is not a number"),
        ("1\n1_000\n", "bad.csv, line 2: '1_000' is not a number"),
        ("1\n\n3\n4\n", "bad.csv, line 2 is empty: write a number there, or submit with"),
        ("1\n2\n\r\n \n5\n", "bad.csv, line 3 is empty: write a number there"),
        ("\n2\n3\n", "bad.csv, line 1 is empty: write a number there"),
        ("x\n\n2\n", "bad.csv, line 2 is empty: write a number there"),
        ("1,2\n\n3,4\n", "bad.csv, line 2 is empty: remove it, for the lines beside it hold more"),
        (",2,3\n", "bad.csv, line 1: a number is missing at a comma"),
        ("a,b\n1,2\n,4\n", "bad.csv, line 3: a number is missing at a comma"),
        ("1\n2\n3,\n", "bad.csv, line 3: a number is missing at a comma"),
        ("NA\n2\n", "bad.csv, line 1: NA stands for no number: write a number there"),
        ("1\nnull\n", "bad.csv, line 2: null stands for no number"),
        ('1\n""\n', 'bad.csv, line 2: "" stands for no number'),
        ("1_000\n2\n", "bad.csv, line 1: '1_000' is not a number"),
        ("$5\n2\n", "bad.csv, line 1: '$5' is not a number"),
        ('"1.5"\n2\n', """bad.csv, line 1: '"1.5"' is not a number"""),
        ("1,,3\n", "bad.csv, line 1: a number is missing at a comma"),
        ("1\n2\n3,", "bad.csv, line 3: a number is missing at a comma"),
        ("1\nnan\n3\n", "bad.csv, line 2: nan is not finite"),
        ("1\n2\n-inf\n", "bad.csv, line 3: -inf is not finite"),
        ("1\n2\n1e999\n", "bad.csv, line 3: 1e999 is not finite"),
        ("", "bad.csv holds no number"),
        ("value\n", "bad.csv holds no number"),
        ("1\n2\n\xff\xfe", "bad.csv, line 3: "),
    ],
)
def test_bad_text(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_bytes(text.encode("latin-1"))
    assert refusal(tmp_path).startswith(said)


def test_the_line_far_into_a_file(tmp_path: Path) -> None:
    lines = ["1.5"] * 700_000
    lines[600_000] = "x"
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    assert refusal(tmp_path).startswith("bad.csv, line 600,001: 'x' is not a number")


def test_files_abreast(tmp_path: Path) -> None:
    """More than are read abreast, of two kinds; one that is too short is refused by name."""
    rng = np.random.default_rng(5)
    rows = [rng.random(BLOCK + 7) for _ in range(21)]
    for number, row in enumerate(rows):
        format = "npy" if number % 5 else "csv"
        WRITERS[format](tmp_path / f"{number:02}.{format}", row)
    means, _ = average(tmp_path)
    np.testing.assert_allclose(means, np.mean(rows, axis=0), rtol=1e-14)
    write_npy(tmp_path / "17.npy", np.ones(BLOCK))
    said = f"17.npy holds {BLOCK:,} numbers, and 00.csv {BLOCK + 7:,}: give every file as many"
    assert refusal(tmp_path) == said


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("order", [(3, 2), (2, 3)])
def test_unequal_lengths(tmp_path: Path, format: str, order: Sequence[int]) -> None:
    for name, length in zip("ab", order, strict=True):
        WRITERS[format](tmp_path / f"{name}.{format}", np.ones(length))
    short, long = ("b", "a") if order == (3, 2) else ("a", "b")
    said = f"{short}.{format} holds 2 numbers, and {long}.{format} 3: give every file as many"
    assert refusal(tmp_path) == said


def test_unequal_in_a_later_round(tmp_path: Path) -> None:
    write_npy(tmp_path / "a.npy", np.ones(2 * BLOCK))
    write_npy(tmp_path / "b.npy", np.ones(BLOCK))
    said = rf"b\.npy holds {BLOCK:,} numbers, and a\.npy more"
    with pytest.raises(UnreadableInput, match=said):
        average(tmp_path, memory=ONE_BLOCK)


@pytest.mark.parametrize("format", ["npy", "parquet"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_not_finite(tmp_path: Path, format: str, wrong: float) -> None:
    numbers = np.ones(BLOCK + 5)
    numbers[BLOCK + 2] = wrong
    WRITERS[format](tmp_path / f"bad.{format}", numbers)
    said = f"bad.{format}: number {BLOCK + 3:,} is {wrong}, not finite"
    assert refusal(tmp_path).startswith(said)


def test_finite_in_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1\nnan\n")
    assert refusal(tmp_path, refuse=False).startswith("number 2 is finite in no file")


def test_a_sum_out_of_range(tmp_path: Path) -> None:
    for name in "ab":
        write_npy(tmp_path / f"{name}.npy", np.array([1.0, 1.7e308]))
    assert "a sum leaves the range of float64" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("cut.npy", "where its header promises"), ("cut.parquet", "is not readable as Parquet")],
)
def test_cut_off(tmp_path: Path, name: str, said: str) -> None:
    whole = tmp_path / name
    WRITERS[whole.suffix[1:]](whole, np.random.default_rng(1).random(10_000))
    whole.write_bytes(whole.read_bytes()[:-1000])
    message = refusal(tmp_path)
    assert message.startswith(name)
    assert said in message


def test_no_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(["x"]))
    assert refusal(tmp_path, "a.npy") == "a.npy holds <U1, not numbers: write it as float64"
    np.save(tmp_path / "b.npy", np.ones((2, 2)))
    assert refusal(tmp_path, "b.npy").startswith("b.npy has the shape (2, 2)")
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00junkjunkjunkjunk")
    assert refusal(tmp_path, "c.npy").startswith("c.npy is not readable as npy")
    (tmp_path / "d.npy").write_bytes(b"")
    assert refusal(tmp_path, "d.npy").startswith("d.npy is not readable as npy")
    write_npy(tmp_path / "e.npy", np.array([2**53 + 1]))
    assert "beyond the integers that float64 can tell apart" in refusal(tmp_path, "e.npy")
    (tmp_path / "f.jpg").write_bytes(b"x")
    assert refusal(tmp_path, "f.jpg").startswith("f.jpg is no file of numbers")
    write_columns(tmp_path / "g.parquet", [1.0], [2.0])
    assert refusal(tmp_path, "g.parquet").startswith("g.parquet has 2 columns (column0, column1)")
    write_columns(tmp_path / "h.parquet", ["x"])
    assert refusal(tmp_path, "h.parquet").startswith("h.parquet holds string, not numbers")
    write_columns(tmp_path / "i.parquet", [1.0, None])
    assert refusal(tmp_path, "i.parquet").startswith("i.parquet: row 2 is null")


def test_a_file_that_changes_or_goes(tmp_path: Path) -> None:
    for name in "ab":
        write_npy(tmp_path / f"{name}.npy", np.ones(10))
    listed = find_local("*", tmp_path)

    def run() -> str:
        async def once() -> None:
            progress, rules = ReadProgress(2), Rules()
            given = {"threads": 1, "memory": 2**30, "rules": rules, "progress": progress}
            async for _ in sum_in_ranges(listed, tmp_path, **given):  # pyright: ignore[reportArgumentType]
                pass

        with pytest.raises(UnreadableInput) as refused:
            asyncio.run(once())
        return str(refused.value)

    write_npy(tmp_path / "b.npy", np.zeros(10))
    assert run().startswith("b.npy has changed, or gone, while it was read")
    (tmp_path / "b.npy").unlink()
    assert run().startswith("b.npy has disappeared")
