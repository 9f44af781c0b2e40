"""Build contexts: one tarball made from texts, folders and tarballs, all of them untrusted."""

import io
import lzma
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from tasks.containers.images.folder import Entry, unreadable
from tasks.containers.images.ignored import IGNORE_FILE, Ignored
from tasks.contracts import Build, stays_inside
from tasks.errors import InvalidPayload, UnreadableInput

_MOST_BYTES = 2 * 2**30  # of a context, uncompressed
_MOST_FILES = 50_000
_TARBALLS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Archives that `docker build` does not unpack either, and tarballs that Python cannot read.
_OTHER_ARCHIVES = (".zip", ".7z", ".rar", ".tar.zst", ".tzst", ".tar.lz", ".tar.lz4", ".tar.z")
_BLOCK = 512  # bytes: a tarball ends with at least one block of zeros
# Time of all files, constant since the build cache compares it; zip files allow none before 1980.
_TIME = 946_684_800
_EXECUTABLE, _PLAIN = 0o755, 0o644
_SCRIPT = b"#!"
_MOST_TEXT = 2**20  # bytes of a .dockerignore that are read
_CHUNK = 2**20
DOCKERFILE = "Dockerfile"


def is_tarball(name: str) -> bool:
    """Whether a file is a tarball to unpack, by its name."""
    return name.lower().endswith(_TARBALLS)


def refuse_archive(name: str) -> None:
    """Raise InvalidPayload for the name of an archive that is not unpacked."""
    if name.lower().endswith(_OTHER_ARCHIVES):
        raise InvalidPayload(
            f"payload.build.context: {name} is an archive that is not unpacked here: give the "
            "folder itself, or a .tar, .tar.gz, .tar.bz2 or .tar.xz of it"
        )


class Context:
    """Writes the tarball, within limits. Of several files with one name the first is kept."""

    def __init__(self, path: Path) -> None:
        self._bytes = 0
        self._names: set[str] = set()
        self.dockerfile: str | None = None
        """The text of the Dockerfile, once one was added."""
        self.in_folders: list[str] = []
        """Dockerfiles that were added in folders, and do not count."""
        self._lower: bytes | None = None
        self.ignored = Ignored()
        """Patterns of files to leave out of folders and tarballs, not of the payload's texts."""
        self._tar = tarfile.TarFile(path, "w")

    # Never left out: Docker itself reads these two, and hides them from COPY where ignored.
    always = frozenset({DOCKERFILE, IGNORE_FILE})

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: object) -> None:
        """Write the end of the tarball."""
        self._tar.close()

    def add_text(self, name: str, text: str) -> None:
        """Add a file whose text is in the payload."""
        data = text.encode()
        self._add(_member(name, len(data), data.startswith(_SCRIPT)), io.BytesIO(data))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of a folder or S3. A script is made executable: S3 has no permissions."""
        if self._is_left_out(name):
            return
        with path.open("rb") as file:
            status = path.stat()
            script = file.read(len(_SCRIPT)) == _SCRIPT
            file.seek(0)
            executable = script or bool(status.st_mode & 0o100)
            self._add(_member(name, status.st_size, executable), file)

    def add_entry(self, entry: Entry) -> None:
        """Add an entry of a local folder, a link as a link. Raises UnreadableInput, and
        InvalidPayload where it is a pipe or a device."""
        mode = entry.status.st_mode
        if stat.S_ISREG(mode):
            try:
                self.add_file(entry.name, entry.path)
            except OSError as error:
                raise unreadable(entry.path, error) from error
        elif stat.S_ISDIR(mode):
            self._add(_folder(entry.name), None)
        elif stat.S_ISLNK(mode) and entry.name == DOCKERFILE:
            self._add_dockerfile_link(entry)
        elif stat.S_ISLNK(mode):
            # Any target is safe: the engine follows it only inside the build.
            self._add(_link(entry.name, tarfile.SYMTYPE, str(entry.path.readlink())), None)
        else:
            raise InvalidPayload(
                f"{entry.name} is neither file, folder nor link: name it in {IGNORE_FILE}"
            )

    def _add_dockerfile_link(self, entry: Entry) -> None:
        if DOCKERFILE in self._names:  # the payload's own text
            return
        place = entry.path.resolve()
        if not place.is_relative_to(entry.path.parent.resolve()) or not place.is_file():
            raise InvalidPayload(
                f"{DOCKERFILE} is a link to no file of the build: put the file itself there"
            )
        self.add_file(DOCKERFILE, place)

    def use_lower_case(self) -> None:
        """Take a file `dockerfile` for the Dockerfile where there is no other, as Docker does."""
        if self.dockerfile is None and self._lower is not None:
            self._add(_member(DOCKERFILE, len(self._lower), False), io.BytesIO(self._lower))

    def add_tarball(self, name: str, path: Path) -> None:
        """Add the content of a tarball. Raises InvalidPayload where a path leaves the context,
        UnreadableInput where the tarball is damaged."""
        with _opened(name, path) as tar:
            # Of members with one name the last counts: tar appends files that have changed.
            last: dict[str, int] = {}
            size = 0
            for member in tar:
                inside = posixpath.normpath(member.name)
                last[inside] = member.offset
                size += 0 if self._is_left_out(inside) else member.size
                self._check_bounds(size, len(last))
            for member in tar.getmembers():
                if last[posixpath.normpath(member.name)] == member.offset:
                    self._add_member(name, tar, member)
            _check_end(name, tar)

    def _add_member(self, tarball: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        inside = posixpath.normpath(member.name)
        if inside == "." and member.isdir():
            return
        if member.name.startswith("/") or not stays_inside(inside):
            raise _outside(tarball, member.name)
        if self._is_left_out(inside):
            return
        if member.isdir():
            self._add(_folder(inside), None)
        elif member.issym() or member.islnk():
            start = posixpath.dirname(inside) if member.issym() else ""
            target = posixpath.normpath(posixpath.join(start, member.linkname))
            if member.linkname.startswith("/") or not stays_inside(target):
                raise _outside(tarball, f"{member.name} -> {member.linkname}")
            # A hard link to a file that is left out is added as a file with that content.
            file = tar.extractfile(member) if member.islnk() and self._is_left_out(target) else None
            if file is not None:
                data = file.read()
                self._add(_member(inside, len(data), False), io.BytesIO(data))
            else:
                self._add(_link(inside, member.type, member.linkname), None)
        elif member.isreg():
            executable = bool(member.mode & 0o100)
            self._add(_member(inside, member.size, executable), tar.extractfile(member))
        else:
            raise InvalidPayload(
                f"{tarball}: {member.name} is neither file, folder nor link: leave it out"
            )

    def _is_left_out(self, name: str) -> bool:
        return name not in self.always and self.ignored.leaves_out(name)

    def _add(self, member: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        if member.name in self._names:
            return
        self._bytes += member.size
        self._names.add(member.name)
        self._check_bounds(self._bytes, len(self._names))
        if member.name in (DOCKERFILE, DOCKERFILE.lower()) and data is not None:
            text = data.read(member.size)
            if member.name == DOCKERFILE:
                self.dockerfile = text.decode(errors="replace")
            else:
                self._lower = text
            data = io.BytesIO(text)
        elif posixpath.basename(member.name) == DOCKERFILE and data is not None:
            self.in_folders.append(member.name)
        self._tar.addfile(member, data)

    def _check_bounds(self, size: int, files: int) -> None:
        if size > _MOST_BYTES or files > _MOST_FILES:
            raise InvalidPayload(
                f"the build's files are more than {_MOST_BYTES // 2**30} GiB, or more than "
                f"{_MOST_FILES:,}: leave out what the Dockerfile does not need"
            )


def add_texts(context: Context, build: Build) -> None:
    """Add the payload's own texts. Call it first, so that they win over other files."""
    if build.dockerfile:
        context.add_text(DOCKERFILE, build.dockerfile)
    for name, text in build.files.items():
        context.add_text(posixpath.normpath(name), text)


def _member(name: str, size: int, executable: bool) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, _EXECUTABLE if executable else _PLAIN
    member.mtime = _TIME
    return member


def _folder(name: str) -> tarfile.TarInfo:
    folder = _member(name, 0, executable=True)
    folder.type = tarfile.DIRTYPE
    return folder


def _link(name: str, kind: bytes, leads: str) -> tarfile.TarInfo:
    link = _member(name, 0, executable=False)
    link.type, link.linkname = kind, leads
    return link


def text_in_tarball(name: str, path: Path, wanted: str) -> bytes | None:
    """The content of a file at the top of a tarball; None for none. Raises UnreadableInput."""
    with _opened(name, path) as tar:
        for member in tar:
            if posixpath.normpath(member.name) == wanted and member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                return file.read(_MOST_TEXT + 1)
    return None


@contextmanager
def _opened(name: str, path: Path) -> Generator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UnreadableInput(
            f"{name} is no tarball that can be read: {error}: make it again with tar"
        ) from error


def _check_end(name: str, tar: tarfile.TarFile) -> None:
    """Raise UnreadableInput where a tarball has no proper end.

    Python's reader takes a cut off or damaged header for the end.
    """
    file = cast(IO[bytes], tar.fileobj)
    file.seek(tar.offset)
    last = file.read(_BLOCK)
    if len(last) < _BLOCK or last.strip(b"\0"):
        raise UnreadableInput(
            f"{name} is no tarball that can be read: it ends, or is damaged, behind byte "
            f"{tar.offset:,}: make it again with tar"
        )
    while file.read(_CHUNK):  # checks the checksum at the end of a compressed file
        pass


def _outside(tarball: str, name: str) -> InvalidPayload:
    return InvalidPayload(
        f"{tarball}: {name} leaves the folder of the build: make the tarball without it"
    )
