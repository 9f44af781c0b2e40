"""What is kept of a log, and what is shown of it."""

from pathlib import Path

import pytest

from tasks.containers import logs
from tasks.containers.logs import LineView, Log


def kept(path: Path, most: int, *pieces: bytes) -> bytes:
    with Log(path, most) as log:
        for piece in pieces:
            log.write(piece)
    return path.read_bytes()


def test_a_log_is_kept_byte_by_byte(tmp_path: Path) -> None:
    everything = bytes(range(256)) * 40
    pieces = [everything[n : n + 7] for n in range(0, len(everything), 7)]
    assert kept(tmp_path / "log", 2**20, *pieces) == everything


def test_one_that_is_just_over_its_bound_loses_nothing(tmp_path: Path) -> None:
    assert kept(tmp_path / "log", 10, b"0123456789abc", b"def") == b"0123456789abcdef"


def test_a_long_one_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    pieces = [f"{n:07}\n".encode() for n in range(100_000)]
    with Log(tmp_path / "log", 1000) as log:
        for piece in pieces:
            log.write(piece)
        assert log.is_cut
    text = (tmp_path / "log").read_bytes()
    assert text.startswith(b"".join(pieces)[:1000])
    assert text.endswith(b"".join(pieces)[-(64 * 2**10) :])
    missing = 800_000 - 1000 - 64 * 2**10
    assert f"\n[prefecture: {missing:,} bytes are left out here]\n".encode() in text
    assert len(text) < 1000 + 64 * 2**10 + 100


def shown(*pieces: bytes) -> list[str]:
    lines: list[str] = []
    live = LineView(lines.append)
    for piece in pieces:
        live.write(piece)
    live.close()
    return lines


def test_lines_are_shown_as_they_come_whatever_they_hold() -> None:
    assert shown(b"one\ntw", b"o\r\n\n", b"\xff\xfe \x1b[31mred\n", b"end") == [
        "one",
        "two",
        "�� �[31mred",
        "end",
    ]


def test_what_has_no_line_end_is_shown_too() -> None:
    (line,) = shown(b"x" * 70_000)
    assert line == "x" * 1000 + "… (70,000 characters)"


def test_a_flood_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.time, "monotonic", lambda: 0.0)
    lines = shown(*(f"{n}\n".encode() for n in range(10_000)))
    assert lines[:200] == [str(n) for n in range(200)]
    assert lines[200:] == ["[9,800 lines are not shown here: they are in the log file]"]
