"""What an image is built from: a tarball of texts, folders and tarballs, none of it trusted."""

import io
import posixpath
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tasks.contracts import Build, stays_inside
from tasks.errors import InvalidPayload, UnreadableInput

_MOST_BYTES = 2 * 2**30  # of a context, uncompressed
_MOST_FILES = 50_000
_TARBALLS = (".tar", ".tar.gz", ".tgz")
_EXECUTABLE, _PLAIN = 0o755, 0o644
_SCRIPT = b"#!"
DOCKERFILE = "Dockerfile"


def is_tarball(name: str) -> bool:
    """Whether a file is taken apart, by its name."""
    return name.lower().endswith(_TARBALLS)


class Context:
    """A tarball that is being written, within bounds. Of two files of one name the first stays."""

    def __init__(self, path: Path) -> None:
        self._bytes = 0
        self._names: set[str] = set()
        self.dockerfile: str | None = None
        """The text of the Dockerfile, once one was added."""
        self._tar = tarfile.TarFile(path, "w")

    def __enter__(self) -> "Context":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the end."""
        self._tar.close()

    def add_text(self, name: str, text: str) -> None:
        """Add a file of the payload's own."""
        data = text.encode()
        self._add(_member(name, len(data), data.startswith(_SCRIPT)), io.BytesIO(data))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of a folder, or of S3, which knows no rights: a script can be executed."""
        with path.open("rb") as file:
            status = path.stat()
            script = file.read(len(_SCRIPT)) == _SCRIPT
            file.seek(0)
            executable = script or bool(status.st_mode & 0o100)
            self._add(_member(name, status.st_size, executable), file)

    def add_tarball(self, name: str, path: Path) -> None:
        """Add what is in a tarball. Raises InvalidPayload where it would leave its folder."""
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    self._add_member(name, tar, member)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UnreadableInput(
                f"{name} is no tarball that can be read: {error}: make it again with tar"
            ) from error

    def _add_member(self, tarball: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        inside = posixpath.normpath(member.name)
        if inside == "." and member.isdir():
            return
        if member.name.startswith("/") or not stays_inside(inside):
            raise _outside(tarball, member.name)
        if member.isdir():
            folder = tarfile.TarInfo(inside)
            folder.type, folder.mode = tarfile.DIRTYPE, _EXECUTABLE
            self._add(folder, None)
        elif member.issym() or member.islnk():
            start = posixpath.dirname(inside) if member.issym() else ""
            target = posixpath.normpath(posixpath.join(start, member.linkname))
            if member.linkname.startswith("/") or not stays_inside(target):
                raise _outside(tarball, f"{member.name} -> {member.linkname}")
            link = tarfile.TarInfo(inside)
            link.type, link.linkname = member.type, member.linkname
            self._add(link, None)
        elif member.isreg():
            executable = bool(member.mode & 0o100)
            self._add(_member(inside, member.size, executable), tar.extractfile(member))
        else:
            raise InvalidPayload(
                f"{tarball}: {member.name} is neither file, folder nor link: leave it out"
            )

    def _add(self, member: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        if member.name in self._names:
            return
        self._bytes += member.size
        self._names.add(member.name)
        if self._bytes > _MOST_BYTES or len(self._names) > _MOST_FILES:
            raise InvalidPayload(
                f"the build's files are more than {_MOST_BYTES // 2**30} GiB, or more than "
                f"{_MOST_FILES:,}: leave out what the Dockerfile does not need"
            )
        if member.name == DOCKERFILE and data is not None:
            text = data.read(member.size)
            self.dockerfile = text.decode(errors="replace")
            data = io.BytesIO(text)
        self._tar.addfile(member, data)


def add_texts(context: Context, build: Build) -> None:
    """What the payload itself holds: first, so that it stands in front of what lies elsewhere."""
    if build.dockerfile:
        context.add_text(DOCKERFILE, build.dockerfile)
    for name, text in build.files.items():
        context.add_text(posixpath.normpath(name), text)


def check_dockerfile(text: str | None) -> None:
    """Refuse a build without a Dockerfile, and one whose ADD the engine itself would fetch.

    The engine fetches it from its own network, in which the API is.
    """
    if text is None:
        raise InvalidPayload(
            "the build's files hold no Dockerfile: put one at their top, or give its text"
        )
    # Whichever escape is in force: to be refused by one reading is enough.
    for escape in "\\`":
        for words in _instructions(text, escape):
            while words and words[0].upper() == "ONBUILD":
                words = words[1:]
            if words and words[0].upper() == "ADD" and any(map(_is_remote, words[1:])):
                raise InvalidPayload(
                    f"Dockerfile: {' '.join(words)[:100]}: ADD cannot fetch an address here, nor "
                    "take a name with a variable or an escape: put the file beside the Dockerfile"
                )


def _is_remote(word: str) -> bool:
    """Whether the engine may read a word as an address, once it has taken away what quotes."""
    bare = re.sub("[\"'`]", "", word).lower()
    return "$" in bare or "\\" in bare or "://" in bare or "git@" in bare


def _instructions(text: str, escape: str) -> list[Sequence[str]]:
    """The words of each instruction, lines that go on joined."""
    joined: list[str] = []
    goes_on = False
    for line in text.splitlines():
        bare = line.strip()
        if goes_on and (not bare or bare.startswith("#")):
            continue  # the engine reads on behind these
        more = bare.endswith(escape)
        bare = bare.removesuffix(escape)
        if goes_on:
            joined[-1] += bare
        else:
            joined.append(bare)
        goes_on = more
    return [line.split() for line in joined]


def _member(name: str, size: int, executable: bool) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    # No time: the engine's cache would miss each time if it looked at that.
    member.size, member.mode = size, _EXECUTABLE if executable else _PLAIN
    return member


def _outside(tarball: str, name: str) -> InvalidPayload:
    return InvalidPayload(
        f"{tarball}: {name} leaves the folder of the build: make the tarball without it"
    )
