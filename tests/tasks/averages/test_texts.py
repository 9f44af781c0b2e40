"""Text as spreadsheets, pandas, R, numpy, Spark and instruments write it: read, or refused."""

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.averages.read_as import described, summarized
from tests.tasks.averages.test_sums import ONE_BLOCK, average, refusal


def means_of(root: Path, data: bytes | str, name: str = "a.csv", **options: Any) -> list[float]:
    (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return average(root, **options)[0].tolist()


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("1.5;2.25\n3;4\n", [1.5, 2.25, 3, 4]),
        ("1,5;2,25\n3;4\n", [1.5, 2.25, 3, 4]),
        ("a;b\r\n1,5;2,25\r\n", [1.5, 2.25]),
        ("Datum;Wert\n1;-1,5e-3\n", [1, -0.0015]),
        ("1,5\t2,5\n3,0\t4,5\n", [1.5, 2.5, 3, 4.5]),
        ("1.5\t2.5\n", [1.5, 2.5]),
        ("x\ty\n1\t2\n", [1, 2]),
        ("1|2\n3|4\n", [1, 2, 3, 4]),
        ("  1.0   2.0\n 10.0  20.0\n", [1, 2, 10, 20]),
        ("# made by numpy\n# x y\n1 2\n", [1, 2]),
        ("# x, y\n1,2\n", [1, 2]),
        ("# comment\nvalue\n1\n", [1]),
        ("sep=;\n1;2\n", [1, 2]),
        ("sep=,\r\nx,y\r\n1,2\r\n", [1, 2]),
        ("value\r1\r2\r3\r", [1, 2, 3]),  # as spreadsheets on older Macs
        ("1\r2\r3", [1, 2, 3]),
        ("1\r\r\n2\r\r\n", [1, 2]),
        (",value\n0,1.5\n1,2.5\n", [1.5, 2.5]),  # pandas' index
        ('"","x","y"\n"1",1,2\n"2",3,4\n', [1, 2, 3, 4]),  # R's names of rows
        (";value\n0;1,5\n", [1.5]),
        ('"a, b",c\n1,2\n', [1, 2]),
        ("x1,x2\n1,2\n", [1, 2]),
        ("temp 2\n1\n", [1]),
    ],
)
def test_what_is_found_out(tmp_path: Path, text: str, means: list[float]) -> None:
    assert means_of(tmp_path, text) == means


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert means_of(tmp_path, "größe\ty\r\n1,5\t2\r\n".encode(encoding)) == [1.5, 2]


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def write_compressed(path: Path, data: bytes, kind: str) -> None:
    if kind in ("zstd", "lz4"):
        compressed: bytes = pa.Codec(kind).compress(data, asbytes=True)
    else:
        compressed = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": _xz}[kind](data)
    path.write_bytes(compressed)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gzip", "a.csv.gz"),
        ("bz2", "a.txt.bz2"),
        ("xz", "a.csv.xz"),
        ("zstd", "a.tsv.zst"),
        ("lz4", "a.dat.lz4"),
        ("gzip", "a.csv"),
    ],
)
def test_compressed(tmp_path: Path, kind: str, name: str) -> None:
    numbers = np.random.default_rng(1).random(140_000)
    half = len(numbers) // 2
    parts = [
        "\n".join(map(repr, part.tolist())) + "\n" for part in (numbers[:half], numbers[half:])
    ]
    write_compressed(tmp_path / name, parts[0].encode(), kind)
    with (tmp_path / name).open("ab") as file:  # as pigz and Hadoop write: one behind the other
        write_compressed(tmp_path / "rest", parts[1].encode(), kind)
        file.write((tmp_path / "rest").read_bytes())
        (tmp_path / "rest").unlink()
    means, progress = average(tmp_path, memory=ONE_BLOCK)
    assert means.tolist() == numbers.tolist()
    assert progress.read_as[0].compression == kind
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-9])
    assert refusal(tmp_path).startswith(f"{name} is not readable as {kind}: ")


NUMERALS = [
    *("\u22125", "\u20135", "€5", "£5", "±5", "∞", "½", "①", "\uff11", "\u0663", "nan(0x1)", "~5"),
    "\u00a05",
]


@pytest.mark.parametrize(
    "first", [*(each.encode() for each in NUMERALS), b"\x805", b"\xa35", b"\xb15"]
)
def test_number_that_is_not_read_is_never_a_header(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(first + b"\n2\n3\n")
    assert refusal(tmp_path).startswith("a.csv, line 1: ")


@pytest.mark.parametrize("name", ["°C", "µV", "Δt", "∆t", "Ångström", "温度", "一月", "№x", "ºC"])
def test_name_of_any_script_is_a_header(tmp_path: Path, name: str) -> None:
    assert means_of(tmp_path, f"{name}\n2\n") == [2]


@pytest.mark.parametrize("kind", ["gzip", "bz2", "xz", "zstd", "lz4"])
@pytest.mark.parametrize("damage", [b"garbage", b"cut", b"magic"])
def test_what_follows_a_compressed_stream_is_read_or_refused(
    tmp_path: Path, kind: str, damage: bytes
) -> None:
    write_compressed(tmp_path / "one", b"1\n", kind)
    write_compressed(tmp_path / "two", b"2\n", kind)
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    behind = {b"garbage": b"no stream at all", b"cut": two[:-3], b"magic": b"\1" + two[1:]}
    (tmp_path / "a.csv").write_bytes(one + behind[damage])
    assert f"is not readable as {kind}: " in refusal(tmp_path, "a.csv")
    if kind == "xz":  # may have padding between its streams
        (tmp_path / "a.csv").write_bytes(one + bytes(4) + two + bytes(8))
        assert average(tmp_path, "a.csv")[0].tolist() == [1, 2]


def test_text_that_is_compressed_twice(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(bz2.compress(b"1\n2\n")))
    assert refusal(tmp_path) == "a.csv.gz is compressed twice, by bz2 and gzip: decompress it once"


@pytest.mark.parametrize(
    ("text", "options", "means"),
    [
        ("2019,2020\n1,2\n", {"header": 1}, [1, 2]),
        ("Report of May\n\nx,y\n1,2\n", {"header": 3}, [1, 2]),
        ("Report of May\n\nx,y\n1,2\n", {"header": 3, "column": "y"}, [2]),
        ("t,v\ns,m/s\n1,2\n", {"header": 2, "column": "v"}, [2]),
        ("1,2\n3,4\n", {"column": "2"}, [2, 4]),
        ("1,2\n3,4\n", {"column": "*"}, [1, 2, 3, 4]),
        ("time,v\n2024-01-01 10:00,1.5\n2024-01-02,\n", {"column": "time"}, None),
        ("time,v\n2024-01-01 10:00,1.5\n2024-01-02,2.5\n", {"column": "v"}, [1.5, 2.5]),
        ('who,v\n"Smith, J",1.5\n"O""N",2.5\n', {"column": "v"}, [1.5, 2.5]),
        ("id v\na 1\nb 2\n", {"column": "v"}, [1, 2]),
        ("# id v\na 1\nb 2\n", {"column": "v"}, [1, 2]),
        ("v;w\n1,5;x\n", {"column": "v"}, [1.5]),
        ("1,5\n2,5\n", {"decimal": ","}, [1.5, 2.5]),
        ("1,5\n2,5\n", {"delimiter": ","}, [1, 5, 2, 5]),
        ("1,5 2,5\n3,5 4,5\n", {"decimal": ","}, [1.5, 2.5, 3.5, 4.5]),
        ("1 234,5\n2 345\n", {"decimal": ","}, None),
        ("1 234,5\n2 345,6\n", {"decimal": ",", "delimiter": " "}, [1, 234.5, 2, 345.6]),
        ("% x\n1 2 % first\n%\n3 4\n", {"comment": "%"}, [1, 2, 3, 4]),
        ("1\n# two\n3 # three\n#4\n", {"comment": "#"}, [1, 3]),
        ("a,b\n1,2 # x\n", {"comment": "#", "column": "1"}, [1]),
        ("1\n#N/A\n", {"comment": "#", "refuse": False}, None),
        ("1,5\tday\tx\n2,5\tday\ty\n", {"column": "1"}, [1.5, 2.5]),
        ("day\tv\tw\n1\t2,5\t\n2\t3,5\tx\n", {"column": "v"}, [2.5, 3.5]),
        ("a,b\n1,x # y,z\n2,\n", {"comment": "#", "column": "a"}, [1, 2]),
        ("# t\na;b\n# u\n1;2\n", {"comment": "#", "column": "b", "header": 1}, [2]),
    ],
)
def test_what_is_said(
    tmp_path: Path, text: str, options: dict[str, Any], means: list[float] | None
) -> None:
    (tmp_path / "a.csv").write_text(text)
    if means is None:
        refusal(tmp_path, **options)
    else:
        assert average(tmp_path, **options)[0].tolist() == means


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1\n2,3\n", "line 2 has 1 field where the header has 2: write as many in every line"),
        ("1,2\n3\n", "line 2 has 1 field where the first row has 2: write as many"),
        ("1,2\n3,4,5", "line 2 has 3 fields where the first row has 2: write as many"),
        ("a,b\n1,2,\n", "line 2: a number is missing at a comma"),
        ("1 2 3\n4   6\n", "line 2 has 2 fields where the first row has 3"),
        ("x y\n1 1.5 2.5\n", "line 2 has 3 fields where the header has 2"),
        ("1\t\t3\n", "line 1: a number is missing at a tab: write a number there"),
        ("1;;3\n", "line 1: a number is missing at a semicolon: write a number there"),
        ("1 234,5\n2 345,6\n", "line 1: '234' stands in a field that holds a number already"),
        ("1,5 2,5\n3,5 4,5\n", "line 1: '2' stands in a field that holds a number already"),
        ("a 1\nb 2\n", "line 1: 'a' is not a number"),
        ("1 000,5;2\n", "line 1: '000,5' stands in a field that holds a number already"),
        ("1.234,5;2\n", "line 1: '1.234,5' is not a number"),
        ("1.5;2,5\n", "line 1: '2,5' is not a number: write a point for the decimals"),
        (" 1 ,2\t3\n", "line 1: "),
        ("a,b\n2024-01-01,2\n", "line 2: '2024-01-01' is not a number: write one there, or submit"),
        ("x,1\n1,2\n", "line 1: 'x' is not a number: if the first line is a header, submit with"),
        ('"1.5","2"\n', "line 1: '\"1.5\"' is not a number: write the numbers without quotes"),
        ("1\n# x\n2\n", 'line 2: \'#\' is not a number: submit with "comment": "#" if it is one'),
        ("1\n\n# x\n2\n", "line 2 is empty"),
        pytest.param("1 2\n" * 20_000 + "1,5\n", "line 20,001: a comma, where", id="late"),
        pytest.param("1\n" * 40_000 + "1,5\n", "line 40,001: a comma, where", id="later"),
        ("1.5D+05\n", "line 1: '1.5D+05' is not a number"),
        ("1\n\u22125\n", "line 2: '\u22125' is not a number"),
        ("PK\x03\x04", " is no text but a ZIP archive or a spreadsheet: save it as CSV"),
        ("1\n2\x003\n", "line 2: "),
        ("1,2,\n3,4,\n", 'or remove the comma at the end, or submit with "column"'),
        ("1;2;\n3;4;", "or remove the semicolon at the end"),
        ("t,v\ns,m\n1,2\n", 'or with "header": 2 if that line is of the header too'),
        ("x\x03y\n1\n", "line 1: 'x\\x03y' is not a number"),
        ('"1,5","2,5"\n', "line 1: '\"1' is not a number: write the numbers without quotes"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    message = refusal(tmp_path)
    assert message.startswith("bad.csv")
    assert said in message


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("a,b\n1,2\n", "c", 'no column c, but a, b: submit with "column" one of them'),
        ("1,2\n", "3", "no column 3, but 2 without names"),
        ("a,a\n1,2\n", "a", 'more than one column a: submit with "column": "1" or "2"'),
        ("a,b\n1,x\n", "b", "line 2: 'x' is not a number"),
        ('a,b\n"x\ny",1\n', "b", "line 2: the quotes of '\"x' do not end in its line"),
        ("a,b\n1,2\n\n3,4\n", "b", "line 3 is empty: remove it"),
        ("a,b\n1,2\n3\n", "a", "line 3 has 1 field where the header has 2"),
        pytest.param(
            "a," + "x" * 2**21 + "\n1,2\n" + "y" * 2**21,
            "a",
            "line 3 is longer than 1,048,576 bytes",
            id="long",
        ),
    ],
)
def test_columns_refused(tmp_path: Path, text: str, column: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert said in refusal(tmp_path, column=column)


@pytest.mark.parametrize(
    "field",
    ["NA", "N/A", "#N/A", "NULL", "None", '""', '"NA"', "nan", "-NaN", "inf", "-Infinity", "",
     "<NA>", "\\N", "1.#QNAN", "-1.#IND", "#DIV/0!", ".", "-", "?", "missing"],
)  # fmt: skip
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_markers_of_what_is_missing(tmp_path: Path, field: str, delimiter: str) -> None:
    text = f"x,y,z\n1.5,{field},3\n4,5,6\n".replace(",", delimiter)
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv").write_text("3.5,2,3\n4,5,6\n")
    means, progress = average(tmp_path, refuse=False)
    assert means.tolist() == [2.5, 2, 3, 4, 5, 6]
    assert progress.missing == 1
    message = refusal(tmp_path)
    assert message.startswith("a.csv, line 2: ")
    assert message.endswith('write a number there, or submit with "not_finite": "skip"')


def test_a_header_longer_than_what_is_looked_at_first(tmp_path: Path) -> None:
    names = [f"sensor {number} of building 7" for number in range(20_000)]
    numbers = np.arange(20_000.0)
    rows = [",".join(map(repr, row.tolist())) for row in (numbers, numbers + 0.5)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
    assert average(tmp_path)[0].tolist() == [*numbers, *(numbers + 0.5)]
    means, progress = average(tmp_path, column=names[7])
    assert means.tolist() == [7, 7.5]
    assert summarized(progress.read_as)[0]["header"] == 1
    indexed = [f"{number},{row}" for number, row in enumerate(rows)]
    (tmp_path / "a.csv").write_text("\n".join(["," + ",".join(names), *indexed]) + "\n")
    assert average(tmp_path)[0].tolist() == [*numbers, *(numbers + 0.5)]


def test_many_comments_before_the_first_row(tmp_path: Path) -> None:
    text = "# a long story\n" * 10_000 + "1\n2\n"
    (tmp_path / "a.csv").write_text(text)
    means, progress = average(tmp_path)
    assert means.tolist() == [1, 2]
    assert progress.comments == 10_000


def test_comments_and_missing_fields_over_many_pieces_and_rounds(tmp_path: Path) -> None:
    rows = [f"{n};{n},5" if n % 1_000 else f"#x {'y' * 99}\n{n};NA # z z" for n in range(200_000)]
    (tmp_path / "a.csv").write_text("a;b\n" + "\n".join(rows))
    np.save(tmp_path / "b.npy", np.repeat(np.arange(200_000.0), 2))
    means, progress = average(tmp_path, refuse=False, memory=ONE_BLOCK, comment="#")
    expected = np.repeat(np.arange(200_000.0), 2)
    expected[1::2] += np.where(np.arange(200_000) % 1_000, 0.25, 0)
    assert means.tolist() == expected.tolist()
    assert (progress.missing, progress.comments) == (200, 400)
    means, _ = average(tmp_path, "a.csv", memory=ONE_BLOCK, comment="#", column="a")
    assert means.tolist() == np.arange(200_000.0).tolist()


def test_files_whose_columns_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("y,x\n1,2\n3,4\n")
    assert refusal(tmp_path).startswith("b.csv has the columns of a.csv in another order: ")
    assert average(tmp_path, column="y")[0].tolist() == [1.5, 3.5]
    (tmp_path / "a.csv").write_text("1,2,3\n4,5,6\n")
    (tmp_path / "b.csv").write_text("1,2\n3,4\n5,6\n")
    assert refusal(tmp_path).startswith("a.csv has rows of 3 numbers, and b.csv of 2: ")
    (tmp_path / "b.csv").write_text("1,2,3,4,5,6\n")
    assert average(tmp_path)[0].tolist() == [1, 2, 3, 4, 5, 6]


def test_what_the_summary_says(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;y\n1,5;2\n3;4\n")
    (tmp_path / "b.csv").write_text("u;v\n1,5;2\n3;4\n")
    (tmp_path / "c.csv").write_text("1\n2\n3\n4\n")
    _, progress = average(tmp_path)
    first, second = summarized(progress.read_as)
    assert first == {
        "files": 2, "first": "a.csv", "format": "csv", "columns": 2, "header": 1, "delimiter": ";",
        "decimal": ",", "encoding": "utf-8",
    }  # fmt: skip
    said = "2 files of csv: 2 columns, delimiter `;`, decimal commas, a header line"
    assert described(first) == said
    assert described(second) == "1 file of csv: 1 column"
