"""What an image is built from, none of which is trusted."""

import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tasks.containers.images import context as module
from tasks.containers.images.context import Context, add_texts, is_tarball
from tasks.containers.images.provide import write_context
from tasks.contracts import Build
from tasks.errors import InvalidPayload, SourceNotFound, UnreadableInput
from tasks.settings import get_settings


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
    # The cache looks at that; and zip files, such as wheels, know no time before 1980.
    assert {member.mtime for member in found.values()} == {946_684_800}


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


def test_what_is_no_tarball_is_reported(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UnreadableInput, match=r"t\.tar is no tarball that can be read"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "F"}), tmp_path / "t.tar")


def whole_tarball(path: Path) -> bytes:
    with tarfile.open(path, "w") as tar:
        for number in range(4):
            member = tarfile.TarInfo(f"file{number}")
            member.size = 3000
            tar.addfile(member, io.BytesIO(bytes(3000)))
    return path.read_bytes()


HEADER, DATA = 512, 3072  # bytes of each of the four files


@pytest.mark.parametrize(
    "end",
    [
        100,
        HEADER + 100,
        HEADER + DATA,
        HEADER + DATA + 100,
        2 * (HEADER + DATA),
        3 * (HEADER + DATA) + 511,
        4 * (HEADER + DATA),
        4 * (HEADER + DATA) + 300,
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_tarball_that_is_cut_off_anywhere_is_refused(tmp_path: Path, end: int, suffix: str) -> None:
    whole = whole_tarball(tmp_path / "whole.tar")
    pack = {".tar": bytes, ".tar.gz": gzip.compress, ".tar.xz": lzma.compress}[suffix]
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(pack(whole[:end]))
    assert is_tarball(path.name)
    with pytest.raises(UnreadableInput, match="is no tarball that can be read"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), path)
    path.write_bytes(pack(whole))
    assert len(made(tmp_path / "c", Build.model_validate({"dockerfile": "FROM x"}), path)) == 5


@pytest.mark.parametrize("cut", [-1, -5, -40])
def test_compressed_tarball_whose_last_bytes_are_missing_is_refused(
    tmp_path: Path, cut: int
) -> None:
    whole = gzip.compress(whole_tarball(tmp_path / "whole.tar"))
    (tmp_path / "cut.tgz").write_bytes(whole[:cut])
    with pytest.raises(UnreadableInput, match=r"cut\.tgz is no tarball that can be read"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "F"}), tmp_path / "cut.tgz")


def test_header_that_is_damaged_ends_no_tarball_early(tmp_path: Path) -> None:
    whole = bytearray(whole_tarball(tmp_path / "whole.tar"))
    whole[2 * (HEADER + DATA)] ^= 1
    (tmp_path / "t.tar").write_bytes(whole)
    with pytest.raises(UnreadableInput, match=r"t\.tar is no tarball that can be read"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "F"}), tmp_path / "t.tar")


def names(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {member.name: member for member in tar.getmembers()}


async def context_of(folder: Path, source: str, **build: Any) -> dict[str, tarfile.TarInfo]:
    """What the engine is sent for a context under an inputs root."""
    wanted = {"dockerfile": "FROM x", "context": source, **build}
    given = Build.model_validate({name: value for name, value in wanted.items() if value})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECTURE_INPUTS_ROOT", str(folder))
        get_settings.cache_clear()
        try:
            await write_context(given, folder.parent / "context.tar", folder.parent)
        finally:
            patch.undo()
            get_settings.cache_clear()
    return names(folder.parent / "context.tar")


IGNORED = ".env\n**/*.key\nbuild\n!build/keep\n# a comment\n"


@pytest.mark.parametrize("kind", ["folder", "tarball", "ignore file in the payload"])
async def test_context_is_what_docker_build_takes(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "inputs"
    app = root / "app"
    for name in ("main.py", ".env", ".hidden", ".git/config", "a/id.key", "build/x", "build/keep"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(name)
    (app / "empty").mkdir()
    (app / "link").symlink_to("main.py")
    more: dict[str, Any] = {"files": {"own.key": "of the payload"}}
    if kind == "ignore file in the payload":
        more["files"][".dockerignore"] = IGNORED
        (app / ".dockerignore").write_text("*")
    else:
        (app / ".dockerignore").write_text(IGNORED)
    source = "app"
    if kind == "tarball":
        source = "app.tar.gz"
        with tarfile.open(root / source, "w:gz") as tar:
            tar.add(app, ".")
    found = await context_of(root, source, **more)
    assert set(found) == {
        *("Dockerfile", ".dockerignore", "main.py", ".hidden", ".git", ".git/config", "a"),
        *("build/keep", "empty", "link", "own.key"),
    }
    assert found["link"].issym()
    assert found["empty"].isdir()


async def test_dockerfiles_own_ignore_file_comes_first(tmp_path: Path) -> None:
    root = tmp_path / "inputs"
    (root / "app").mkdir(parents=True)
    for name in ("a", "b"):
        (root / "app" / name).touch()
    (root / "app" / ".dockerignore").write_text("a")
    (root / "app" / "Dockerfile.dockerignore").write_text("b")
    found = await context_of(root, "app")
    assert "a" in found
    assert "b" not in found


@pytest.mark.parametrize("kind", ["link", "lower case", "lower case in a tarball"])
async def test_dockerfile_is_found_as_docker_finds_it(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "inputs"
    app = root / "app"
    (app / "docker").mkdir(parents=True)
    source = "app"
    if kind == "link":
        (app / "docker" / "Dockerfile.prod").write_text("FROM x\n# of docker/")
        (app / "Dockerfile").symlink_to("docker/Dockerfile.prod")
    else:
        (app / "dockerfile").write_text("FROM x\n# of docker/")
    if "tarball" in kind:
        source = tarball(root / "app.tgz", ("dockerfile", b"FROM x\n# of docker/")).name
    found = await context_of(root, source, dockerfile="")
    assert found["Dockerfile"].isreg()
    assert found["Dockerfile"].size == len("FROM x\n# of docker/")


async def test_dockerfile_that_is_elsewhere_is_named(tmp_path: Path) -> None:
    root = tmp_path / "inputs"
    (root / "app").mkdir(parents=True)
    tarball(root / "app.tgz", ("app/Dockerfile", b"FROM x"), ("app/a", b"1"))
    said = "hold no Dockerfile, but app/Dockerfile: put one at their top"
    with pytest.raises(InvalidPayload, match=said):
        await context_of(root, "app.tgz", dockerfile="")
    (root / "app" / "Dockerfile").symlink_to("/etc/hostname")
    with pytest.raises(InvalidPayload, match="Dockerfile is a link to no file of the build"):
        await context_of(root, "app", dockerfile="")


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    packed = tarball(tmp_path / "t.tgz", ("a", b"old"), ("b", b"1"), ("./a", b"newer"))
    found = made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), packed)
    assert found["a"].size == len("newer")


@pytest.mark.parametrize("name", ["app.zip", "APP.ZIP", "app.tar.zst", "app.7z"])
async def test_archive_that_is_not_unpacked_names_the_cure(tmp_path: Path, name: str) -> None:
    root = tmp_path / "inputs"
    root.mkdir()
    with zipfile.ZipFile(root / name, "w") as archive:
        archive.writestr("Dockerfile", "FROM x")
    with pytest.raises(InvalidPayload) as refused:
        await context_of(root, name, dockerfile="")
    assert str(refused.value) == (
        f"payload.build.context: {name} is an archive that is not unpacked here: give the folder "
        "itself, or a .tar, .tar.gz, .tar.bz2 or .tar.xz of it"
    )
    assert name in await context_of(root, name), "beside a Dockerfile it is a file to COPY"


async def test_folder_with_links_to_anywhere_and_pipes(tmp_path: Path) -> None:
    root = tmp_path / "inputs"
    (root / "app" / "bin").mkdir(parents=True)
    (root / "app" / "bin" / "python").symlink_to("/usr/bin/python3")
    (root / "app" / "here").symlink_to("bin")
    found = await context_of(root, "app")
    assert found["bin/python"].linkname == "/usr/bin/python3", "followed in the build only"
    assert found["here"].issym()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(SourceNotFound, match="'out' is a symbolic link out of the inputs root"):
        await context_of(root, "out")
    os.mkfifo(root / "app" / "pipe")
    with pytest.raises(InvalidPayload, match=r"pipe is neither file, folder nor link: name it in"):
        await context_of(root, "app")


def test_a_context_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    packed = tarball(tmp_path / "bomb.tgz", ("zeros", bytes(100_000)))
    assert packed.stat().st_size < 1000
    with pytest.raises(InvalidPayload, match="leave out what the Dockerfile does not need"):
        made(tmp_path / "context", Build.model_validate({"dockerfile": "FROM x"}), packed)
