"""What a generator prints, line by line: JSON to the topic, all else kept aside."""

from datetime import datetime
from pathlib import Path

import pytest

from tasks.containers.logs import Log
from tasks.generation.lines import Counts, Lines, is_json
from tasks.generation.topics.folder import FolderTopic


def taken(folder: Path, *printed: tuple[bytes | None, bytes | None]) -> Counts:
    """What became of pieces of standard output and standard error."""
    counts = Counts()
    folder.mkdir(exist_ok=True)
    topic = FolderTopic(folder / "topic", "writer")
    with Log(folder / "aside", 10_000) as aside, Log(folder / "err", 10_000) as err:
        Lines(1, topic, counts, aside, err).take_all(piece for piece in printed)
    topic.close()
    assert topic.delivered == counts.messages
    return counts


def delivered(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted((folder / "topic").iterdir()))


def test_lines_come_in_pieces(tmp_path: Path) -> None:
    counts = taken(
        tmp_path,
        (b'{"n": 1}\n{"n"', None),
        (b": 2}\r\n\n  \nworking", b"on "),
        (b"\n", b"it\n"),
        (b'"the last has no end"', None),
    )
    assert delivered(tmp_path) == '{"n": 1}\n{"n": 2}\n"the last has no end"\n'
    assert (tmp_path / "aside").read_text() == "working\n"
    assert (tmp_path / "err").read_text() == "on it\n"
    assert (counts.messages, counts.bytes, counts.aside) == (3, 8 + 8 + 21, 1)
    assert isinstance(counts.first, datetime)
    assert isinstance(counts.last, datetime)
    assert counts.first <= counts.last


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path) -> None:
    piece = b"x" * 2**18
    counts = taken(tmp_path, *[(piece, None)] * 40)
    assert counts.messages == 0
    assert (counts.aside, counts.too_long) == (1, 1), "however long it is, it is one line"
    assert (tmp_path / "aside").stat().st_size < 100_000


def test_line_over_the_limit_leaves_no_line_of_its_rest(tmp_path: Path) -> None:
    long = b'{"pad": "' + b"x" * 2**20 + b'"}'
    at_once = taken(tmp_path / "a", (b'{"n": 1}\n' + long + b'\n{"n": 2}\n', None))
    # Cut so that the rest of it is JSON in itself: a number, and a string.
    cut = taken(
        tmp_path / "b",
        *((b'"' + b"x" * 2**20, None), (b"y" * 10, None), (b'"x"\n7\n', None)),
        *((long[:-5], None), (b"42", None), (b"\n{}\n" + long, None)),
    )
    assert (at_once.messages, at_once.aside, at_once.too_long) == (2, 1, 1)
    assert delivered(tmp_path / "a") == '{"n": 1}\n{"n": 2}\n'
    assert (cut.messages, cut.aside, cut.too_long) == (2, 3, 3)
    assert delivered(tmp_path / "b") == "7\n{}\n"
    assert "[prefecture: a line of more than 1,048,576 bytes]" in (tmp_path / "b/aside").read_text()


def test_line_of_the_limit_is_delivered(tmp_path: Path) -> None:
    line = b'"' + b"x" * (2**20 - 2) + b'"'
    counts = taken(tmp_path, (line[:-9], None), (line[-9:] + b"\n", None))
    assert (counts.messages, counts.bytes, counts.too_long) == (1, 2**20, 0)


@pytest.mark.parametrize("last", [b"12", b"-1.5", b'{"n": 1', b'"open'])
def test_last_line_that_may_be_cut_off_is_not_delivered(tmp_path: Path, last: bytes) -> None:
    counts = taken(tmp_path, (b"1\n" + last, None))
    assert (counts.messages, counts.aside) == (1, 1)
    assert delivered(tmp_path) == "1\n"
    assert (tmp_path / "aside").read_bytes().strip() == last


@pytest.mark.parametrize("line", ["{}", "[1, null]", "1.5e3", '"höhe"', "true", '{"a": {"b": []}}'])
def test_json(line: str) -> None:
    assert is_json(line.encode())


@pytest.mark.parametrize(
    "line",
    [
        *(b"{'a': 1}", b"{}{}", b"NaN", b'{"a": Infinity}', b"starting", b'"open', b'"\xff"'),
        "{}".encode("utf-16"),
        b"[" * 100_000,
    ],
)
def test_no_json(line: bytes) -> None:
    assert not is_json(line)
