"""A source names files under the inputs root, each once, and never one outside it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from socket import AF_UNIX, socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import FileUnreadable, SourceNotFound
from tasks.storage.inputs.local import LocalFile, Unreadable, find_each, find_local
from tests.support.needs import need_namespaces


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


async def check_places(found: list[LocalFile], root: Path) -> None:
    for file in found:
        async with file.local(root / "scratch") as path:
            assert path.is_file()
            assert path.resolve().is_relative_to(root.resolve())


def names_of(source: str, root: Path) -> list[str]:
    found = find_local(source, root)
    names = [file.name for file in found]
    assert names == sorted(set(names)), "sorted, each once"
    asyncio.run(check_places(found, root))
    assert not (root / "scratch").exists(), "nothing is copied"
    return names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An inputs root with photos, and something secret beside it."""
    put(tmp_path, "secret/key.jpg", "inputs-too/x.jpg")
    inputs = tmp_path / "inputs"
    put(
        inputs, "a.jpg", "photos/b.jpg", "photos/a.png", "photos/2026/c.jpg", "photos/2026/07/d.jpg"
    )
    put(inputs, "photos/.hidden.jpg", "photos/.git/e.jpg", ".top.jpg", "photos/2026/notes.txt")
    return inputs


ALL_PHOTOS = ["2026/07/d.jpg", "2026/c.jpg", "2026/notes.txt", "a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a.jpg", ["a.jpg"]),
        ("photos/2026/c.jpg", ["c.jpg"]),
        ("photos/./2026//c.jpg", ["c.jpg"]),
        ("photos", ALL_PHOTOS),
        ("photos/", ALL_PHOTOS),
        (".", ["a.jpg", *(f"photos/{name}" for name in ALL_PHOTOS)]),
        ("photos/*.jpg", ["b.jpg"]),
        ("photos/*", ["a.png", "b.jpg"]),
        ("photos/?.???", ["a.png", "b.jpg"]),
        ("photos/[a-b].*", ["a.png", "b.jpg"]),
        ("photos/[!a].*", ["b.jpg"]),
        ("photos/*/*.jpg", ["2026/c.jpg"]),
        ("photos/2026/*.jpg", ["c.jpg"]),
        ("*.jpg", ["a.jpg"]),
        ("*/*.jpg", ["photos/b.jpg"]),
        ("**", ["a.jpg", *(f"photos/{name}" for name in ALL_PHOTOS)]),
        ("**/*.jpg", ["a.jpg", "photos/2026/07/d.jpg", "photos/2026/c.jpg", "photos/b.jpg"]),
        ("photos/**/*.jpg", ["2026/07/d.jpg", "2026/c.jpg", "b.jpg"]),
        ("photos/**", ALL_PHOTOS),
        ("photos/**/", []),
        ("photos/.hidden.jpg", [".hidden.jpg"]),
        ("photos/.*", [".hidden.jpg"]),
    ],
)
def test_source_names_files(root: Path, source: str, names: list[str]) -> None:
    if names:
        assert names_of(source, root) == names
    else:
        with pytest.raises(SourceNotFound, match="names no file"):
            find_local(source, root)


@pytest.mark.parametrize(
    "source", ["no.jpg", "*.gif", "a.jpg/b", "photos/**/*.gif", "[", "x" * 300]
)
def test_source_that_names_nothing_is_refused_in_one_line(root: Path, source: str) -> None:
    with pytest.raises(SourceNotFound, match="names no file under the inputs root") as refused:
        find_local(source, root)
    assert f"'{source}'" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_empty_folder_is_refused(root: Path) -> None:
    (root / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(SourceNotFound, match="names no file"):
        find_local("empty", root)


def test_missing_inputs_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match=f"no inputs root at {tmp_path / 'gone'}"):
        find_local("a.jpg", tmp_path / "gone")


@pytest.mark.parametrize(
    "source",
    ["..", "../secret", "../secret/*.jpg", "photos/../a.jpg", "photos/..", "**/../*", "*/../../*"],
)
def test_dots_that_climb_are_refused_even_where_they_stay_inside(root: Path, source: str) -> None:
    with pytest.raises(SourceNotFound, match=r"without '\.\.'"):
        find_local(source, root)


def test_dots_within_a_name_are_a_name(root: Path) -> None:
    put(root, "a..b.jpg", "...jpg")
    assert names_of("a..b.jpg", root) == ["a..b.jpg"]


@pytest.mark.parametrize("name", ["[ab].jpg", "what?.jpg", "a*.jpg", "set [1]/x.jpg"])
def test_literal_name_wins_over_the_glob_it_looks_like(root: Path, name: str) -> None:
    put(root, name, "a.jpg", "b.jpg", "ab.jpg", "set 1/x.jpg")
    assert names_of(name, root) == [Path(name).name]


def test_folder_with_brackets_is_a_folder(root: Path) -> None:
    put(root, "set [1]/x.jpg", "set 1/y.jpg")
    assert names_of("set [1]", root) == ["x.jpg"]


ODD = [
    *("new\nline.jpg", "tab\t.jpg", " lead", "trail ", "été.jpg", "e\u0301.jpg", "\u202egpj.exe"),
    *("😀.jpg", "-rf", "~", "$HOME", "`id`", "a'b\"c", "a\\b", "x" * 255),
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_found_as_they_are(root: Path, name: str) -> None:
    put(root, f"odd/{name}")
    assert names_of("odd", root) == [name]
    assert names_of("odd/*", root) == [name]


def test_name_that_is_not_utf8_is_refused_or_left_out_before_any_work(root: Path) -> None:
    # A manifest is JSON, which cannot hold such a name: better now than after hours of work.
    put(root, "photos/bad\udce9.jpg")
    for source in ("photos", "photos/*", "**"):
        with pytest.raises(SourceNotFound, match=r"bad\\udce9\.jpg' is not UTF-8"):
            find_local(source, root)


def test_link_to_a_file_inside_is_followed(root: Path) -> None:
    (root / "photos" / "link.jpg").symlink_to(root / "a.jpg")
    assert names_of("photos/link.jpg", root) == ["link.jpg"]
    assert names_of("photos/l*", root) == ["link.jpg"]
    assert "link.jpg" in names_of("photos", root)


@pytest.mark.parametrize("target", ["../../secret/key.jpg", "../../inputs-too/x.jpg"])
@pytest.mark.parametrize("source", ["photos/link.jpg", "photos/*.jpg", "photos", "**", "."])
def test_link_to_a_file_outside_is_refused_by_name(root: Path, target: str, source: str) -> None:
    (root / "photos" / "link.jpg").symlink_to(target)
    with pytest.raises(SourceNotFound, match=r"link\.jpg is a symbolic link out of"):
        find_local(source, root)


@pytest.mark.parametrize("source", ["out", "out/key.jpg", "out/*", "*/*.jpg", "**/*.jpg", "."])
def test_link_to_a_folder_outside_is_refused(root: Path, source: str) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    with pytest.raises(SourceNotFound, match="symbolic link"):
        find_local(source, root)


def test_link_to_a_folder_inside_is_refused_inside_a_folder_and_followed_by_name(
    root: Path,
) -> None:
    (root / "latest").symlink_to("photos/2026")
    assert names_of("latest", root) == ["07/d.jpg", "c.jpg", "notes.txt"]
    assert names_of("latest/*.jpg", root) == ["c.jpg"]
    with pytest.raises(SourceNotFound, match="latest is a symbolic link to a folder"):
        find_local(".", root)


def test_inputs_root_may_itself_be_a_link(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert names_of("photos/*.jpg", link) == ["b.jpg"]


@pytest.mark.parametrize("source", ["photos/**/*.jpg", "photos/**"])
def test_folder_that_holds_itself_gives_each_file_once(root: Path, source: str) -> None:
    (root / "photos" / "loop").symlink_to(".")
    with pytest.raises(SourceNotFound, match="loop is a symbolic link to a folder"):
        find_local(source, root)


def test_link_to_a_folder_that_no_match_lies_in_is_no_matter(root: Path) -> None:
    (root / "photos" / "loop").symlink_to(".")
    assert names_of("photos/*", root) == ["a.png", "b.jpg"]
    assert names_of("photos/2*/*.jpg", root) == ["2026/c.jpg"]


@pytest.mark.parametrize("source", ["bad", "bad/*", "bad/self", "bad/ping"])
def test_link_that_leads_nowhere_is_reported_and_never_an_accident(root: Path, source: str) -> None:
    put(root, "bad/good.jpg")
    for name, target in (("self", "self"), ("ping", "pong"), ("pong", "ping"), ("gone", "none")):
        (root / "bad" / name).symlink_to(target)
    if source in ("bad", "bad/*"):  # whoever opens them reports them
        found = find_local(source, root)
        assert [file.name for file in found] == ["gone", "good.jpg", "ping", "pong", "self"]
    else:
        with pytest.raises(SourceNotFound, match=f"'{source}' names no file"):
            find_local(source, root)


# In a user namespace without a map not even root may read what its owner may not.
NO_ONE = ["unshare", "--user", sys.executable, "-c"]
TELL = """
import sys
from pathlib import Path
from tasks.errors import FileUnreadable, SourceNotFound
from tasks.storage.inputs.local import LocalFile, Unreadable, find_each, find_local
try:
    print(find_local(sys.argv[1], Path(sys.argv[2])))
except SourceNotFound as error:
    print(error)
"""


@pytest.mark.parametrize("source", ["photos", "photos/**", "photos/2026/*", "photos/*/c.jpg"])
def test_folder_that_may_not_be_read_is_reported_and_not_passed_over(
    root: Path, source: str
) -> None:
    need_namespaces()
    closed = root / "photos" / "2026"
    closed.chmod(0)
    command = [*NO_ONE, TELL, source, str(root)]
    try:
        said = subprocess.run(
            command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=240
        )
    finally:
        closed.chmod(0o700)
    assert said.stderr == ""
    assert said.stdout.startswith(f"source '{source}': {closed}")
    assert said.stdout.endswith(
        " cannot be read: Permission denied: "
        "give the worker's user read access, or name another source\n"
    )


def test_named_pipe_is_no_file(root: Path) -> None:
    # Reading one would wait for ever for a writer.
    os.mkfifo(root / "photos" / "pipe.jpg")
    assert "pipe.jpg" not in names_of("photos", root)
    assert "pipe.jpg" not in names_of("photos/*", root)
    with pytest.raises(SourceNotFound):
        find_local("photos/pipe.jpg", root)


def reasons_of(source: str, root: Path) -> dict[str, str | None]:
    found = find_each(source, root)
    assert [file.name for file in found] == sorted(file.name for file in found)
    return {file.name: file.reason if isinstance(file, Unreadable) else None for file in found}


@pytest.mark.parametrize("source", ["photos", "photos/*", "photos/**"])
def test_each_member_that_cannot_be_read_says_why(root: Path, source: str) -> None:
    photos = root / "photos"
    put(root, "photos/bad\udce9.jpg")
    os.mkfifo(photos / "pipe.jpg")
    with socket(AF_UNIX) as listener:
        listener.bind(str(photos / "live.sock"))
    (photos / "out.jpg").symlink_to(root.parent / "secret" / "key.jpg")
    (photos / "gone.jpg").symlink_to("nowhere")
    (photos / "latest").symlink_to("2026")
    reasons = reasons_of(source, root)
    assert reasons["a.png"] is None
    assert reasons["gone.jpg"] is None, "the error comes when it is opened"
    bad = {name: reason for name, reason in reasons.items() if reason}
    assert bad.pop("bad\\xe9.jpg") == "is not UTF-8: rename the file"
    assert bad.pop("pipe.jpg") == "is a named pipe: remove it"
    assert bad.pop("live.sock") == "is a socket: remove it"
    assert "is a symbolic link out of the inputs root" in (bad.pop("out.jpg") or "")
    if source != "photos/*":  # which asks for nothing in folders
        assert "is a symbolic link to a folder" in (bad.pop("latest") or "")
    assert bad == {}
    assert "key.jpg" not in str(reasons), "what a link leads to stays unsaid"


def test_member_that_cannot_be_read_is_refused_when_opened(root: Path) -> None:
    os.mkfifo(root / "photos" / "pipe.jpg")
    (pipe,) = (file for file in find_each("photos", root) if isinstance(file, Unreadable))

    async def opened() -> None:
        async with pipe.local(root / "scratch"):
            pytest.fail("nothing is there to read")

    with pytest.raises(FileUnreadable, match=r"'photos': pipe\.jpg is a named pipe"):
        asyncio.run(opened())


def test_source_of_nothing_readable_is_not_empty(root: Path) -> None:
    (root / "pipes").mkdir()
    os.mkfifo(root / "pipes" / "pipe.jpg")
    assert reasons_of("pipes", root) == {"pipe.jpg": "is a named pipe: remove it"}


@given(source=st.text(alphabet="ab./*?[]!-~\n\\é", min_size=1, max_size=12))
def test_no_source_leads_outside(tmp_path_factory: pytest.TempPathFactory, source: str) -> None:
    root = tmp_path_factory.getbasetemp() / "any-source" / "inputs"
    if not root.exists():
        put(root, "a/b", "b/a", "a.b", ".a/b", "[a]", "é/a")
        put(root.parent, "a", "b/a", "inputs.a")
    if source.startswith("/"):  # refused by the contract before it comes here
        return
    try:
        found = find_local(source, root)
    except SourceNotFound:
        return
    assert found
    assert len({file.name for file in found}) == len(found)
    for file in found:
        assert file.path.resolve().is_relative_to(root)
        assert not Path(file.name).is_absolute()
        assert ".." not in Path(file.name).parts
