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
    assert counts.aside == 40 // 5, "each MiB, and what comes with it"
    assert (tmp_path / "aside").stat().st_size < 100_000


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
