"""What a container leaves in /output: measured and collected, whatever it is."""

import os
import socket
from pathlib import Path

from tasks.containers import output
from tasks.containers.output import clear, collect, measure


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_only_regular_files_are_collected_and_no_link_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    place = tmp_path / "output"
    (place / "sub").mkdir(parents=True)
    (place / "a.txt").write_text("a")
    (place / "sub" / "b.txt").write_text("b")
    (place / "passwd").symlink_to(secret)
    (place / "sub" / "out").symlink_to(tmp_path)
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        collected = collect(place, tmp_path / "to")
    assert files(tmp_path / "to") == {"a.txt": b"a", "sub/b.txt": b"b"}
    assert (collected.files, collected.bytes, collected.left_out_in_all) == (2, 2, 4)
    assert sorted((entry["path"], entry["why"]) for entry in collected.left_out) == [
        ("passwd", "a symbolic link"),
        ("pipe", "a pipe"),
        ("s", "a socket"),
        ("sub/out", "a symbolic link"),
    ]
    assert secret.read_text() == "of the host"


def test_odd_names_are_spelled_so_that_a_manifest_can_hold_them(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path / "output")
    (tmp_path / "output").mkdir()
    odd = (b"caf\xe9", b"line\nbreak", b"back\\slash", "höhe".encode(), b" ", b"x" * 255)
    for name in odd:
        Path(os.fsdecode(place + b"/" + name)).write_bytes(name)
    collected = collect(Path(os.fsdecode(place)), tmp_path / "to")
    assert collected.files == len(odd)
    assert files(tmp_path / "to") == {
        "caf%E9": odd[0],
        "line%0Abreak": odd[1],
        "back%5Cslash": odd[2],
        "höhe": odd[3],
        " ": odd[4],
        "x" * 255: odd[5],
    }


def test_two_odd_names_that_are_spelled_alike_are_both_kept(tmp_path: Path) -> None:
    place = tmp_path / "output"
    place.mkdir()
    (place / "a\nb").write_text("1")
    (place / "a%0Ab").write_text("2")
    collect(place, tmp_path / "to")
    assert sorted(files(tmp_path / "to").values()) == [b"1", b"2"]


def test_rights_are_no_hindrance_and_not_passed_on(tmp_path: Path) -> None:
    place = tmp_path / "output"
    place.mkdir()
    (place / "closed").write_text("x")
    (place / "closed").chmod(0)
    (place / "setuid").write_text("x")
    (place / "setuid").chmod(0o4755)
    (place / "shut").mkdir()
    (place / "shut" / "file").write_text("x")
    (place / "shut" / "file").chmod(0)
    (place / "shut").chmod(0)
    collected = collect(place, tmp_path / "to")
    assert set(files(tmp_path / "to")) == {"closed", "setuid", "shut/file"}
    assert (collected.files, collected.left_out_in_all) == (3, 0)
    published = (path for path in (tmp_path / "to").rglob("*") if path.is_file())
    assert {path.stat().st_mode & 0o7777 for path in published} == {0o644}


def test_a_hole_counts_as_what_it_stands_for(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(5 * 2**30)
    assert measure(tmp_path).bytes == 5 * 2**30


def test_too_deep_and_too_many_are_reported(tmp_path: Path, monkeypatch: object) -> None:
    deep = tmp_path / "deep"
    deep.joinpath(*"d" * 150).mkdir(parents=True)
    assert "more than 100 folders in one another" in measure(deep).fault
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20):
        (many / str(number)).touch()
    assert measure(many).fault == ""
    most, output.MOST_FILES = output.MOST_FILES, 10
    try:
        assert "more than 10 files and folders" in measure(many).fault
    finally:
        output.MOST_FILES = most


def test_a_folder_is_removed_however_deep_and_whatever_its_rights(tmp_path: Path) -> None:
    place = tmp_path / "output"
    place.mkdir()
    here = os.getcwd()  # noqa: PTH109
    try:
        os.chdir(place)
        for _ in range(3000):  # some 9 KB of path: twice what the system takes in one
            os.mkdir("dir")  # noqa: PTH102
            os.chdir("dir")
        Path("file").touch()
    finally:
        os.chdir(here)
    assert (
        "longer than the system's" in measure(place).fault
        or "in one another" in measure(place).fault
    )
    (place / "dir").chmod(0)
    clear(place)
    assert list(tmp_path.iterdir()) == []
    clear(place)  # again is nothing
