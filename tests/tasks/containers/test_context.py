"""What an image is built from, none of which is trusted."""

import io
import tarfile
from pathlib import Path

import pytest

from tasks.containers.images import context as module
from tasks.containers.images.context import Context, add_texts, check_dockerfile
from tasks.contracts import Build
from tasks.errors import InvalidPayload, UnreadableInput


def tarball(path: Path, *members: tuple[str, str | bytes]) -> Path:
    """A tarball of files, and of links where the content is `-> target`."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.SYMTYPE
                member.linkname = content.removeprefix("-> ")
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def made(path: Path, build: Build, *tarballs: Path) -> dict[str, tarfile.TarInfo]:
    with Context(path) as context:
        add_texts(context, build)
        for one in tarballs:
            context.add_tarball(one.name, one)
    with tarfile.open(path) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_texts_become_files_and_scripts_can_be_executed(tmp_path: Path) -> None:
    build = Build.model_validate(
        {"dockerfile": "FROM x", "files": {"run.sh": "#!/bin/sh\n", "a/data.txt": "höhe"}}
    )
    found = made(tmp_path / "context", build)
    assert {name: oct(member.mode) for name, member in found.items()} == {
        "Dockerfile": "0o644",
        "run.sh": "0o755",
        "a/data.txt": "0o644",
    }
    assert {member.mtime for member in found.values()} == {0}, "the cache looks at that"


def test_a_script_of_a_folder_can_be_executed_wherever_it_lay(tmp_path: Path) -> None:
    contents = {"run.sh": b"#!/bin/sh\n", "data": b"", "tool": b"\x7fELF"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)  # by S3 without any rights to execute it
    (tmp_path / "tool").chmod(0o700)
    with Context(tmp_path / "context") as context:
        for name in contents:
            context.add_file(name, tmp_path / name)
    with tarfile.open(tmp_path / "context") as tar:
        found = {member.name: oct(member.mode) for member in tar.getmembers()}
        assert found == {"run.sh": "0o755", "data": "0o644", "tool": "0o755"}
        for name, content in contents.items():
            file = tar.extractfile(name)
            assert file is not None
            assert file.read() == content


def test_what_stands_in_the_payload_comes_before_what_lies_elsewhere(tmp_path: Path) -> None:
    packed = tarball(tmp_path / "t.tgz", ("Dockerfile", b"FROM other"), ("./b", b"b"))
    found = made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), packed)
    assert sorted(found) == ["Dockerfile", "b"]
    assert found["Dockerfile"].size == len("FROM x")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../out", b"x"),
        ("a/../../out", b"x"),
        ("/etc/passwd", b"x"),
        ("link", "-> /etc/passwd"),
        ("a/link", "-> ../../out"),
        ("link", "-> .."),
    ],
)
def test_a_tarball_that_leaves_its_folder_is_refused(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    packed = tarball(tmp_path / "t.tgz", (name, content))
    with pytest.raises(InvalidPayload, match=r"t\.tgz: .* leaves the folder of the build"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), packed)


def test_links_inside_are_kept_and_devices_refused(tmp_path: Path) -> None:
    packed = tarball(tmp_path / "t.tgz", ("a/file", b"x"), ("a/link", "-> file"))
    found = made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), packed)
    assert found["a/link"].issym()
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        device = tarfile.TarInfo("null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    with pytest.raises(InvalidPayload, match="null is neither file, folder nor link"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "F"}), tmp_path / "d.tar")


def test_what_is_no_tarball_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UnreadableInput, match=r"t\.tar is no tarball that can be read"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "F"}), tmp_path / "t.tar")


def test_a_context_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    packed = tarball(tmp_path / "bomb.tgz", ("zeros", bytes(100_000)))
    assert packed.stat().st_size < 1000
    with pytest.raises(InvalidPayload, match="leave out what the Dockerfile does not need"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), packed)


ESCAPED = "# escape=`\nFROM x\nRUN dir \\\nADD http://127.0.0.1/ /x"


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nADD http://127.0.0.1:4200/api/ /x",
        "FROM x\n  add --chown=1 HTTPS://example.org/x /x",
        "FROM x\nADD \\\n# comment\n\n  http://127.0.0.1/ /x",
        "FROM x\nADD ht\\\ntp://127.0.0.1/ /x",
        'FROM x\nADD ["http://127.0.0.1/", "/x"]',
        'FROM x\nADD ["http:\\u002f\\u002f127.0.0.1/", "/x"]',
        'FROM x\nADD http:"//"127.0.0.1/ /x',
        "FROM x\nADD ht\\tp://127.0.0.1/ /x",
        "FROM x\nARG u=http://127.0.0.1/\nADD $u /x",
        "FROM x\nONBUILD ADD http://127.0.0.1/ /x",
        "FROM x\nRUN echo `date`\nADD http://127.0.0.1/ /x",
        "FROM x\nADD git@example.org:a/b /x",
        ESCAPED,
    ],
)
def test_what_the_engine_itself_would_fetch_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload, match="ADD cannot fetch an address here"):
        check_dockerfile(text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nADD data.tar.gz /data",
        "FROM x\nRUN echo ADD http://example.org",
        "FROM x\nLABEL url=http://example.org",
        "FROM x\n# ADD http://example.org /x",
        'FROM x\nCOPY a b\nENTRYPOINT ["/b"]',
    ],
)
def test_other_dockerfiles_pass(text: str) -> None:
    check_dockerfile(text)


def test_there_must_be_a_dockerfile() -> None:
    with pytest.raises(InvalidPayload, match="hold no Dockerfile"):
        check_dockerfile(None)
