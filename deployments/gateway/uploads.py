"""Files that users have uploaded: `users/<name>/…` under the inputs root.

A file is written to `.uploads` in its user's folder, which no source reads, and gets its name once
it is whole. An upload that breaks off leaves there what has arrived, and can be continued.

Folders are opened one below the other, and no link is followed: a name leads nowhere else, whatever
else has been put under the inputs root.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tasks.errors import InvalidPayload, PrefectureError, SourceNotFound

USERS = "users"
"""The folder of all users under the inputs root."""
PARTS = ".uploads"
"""The folder of what is being uploaded, in that of its user."""
_KEPT = 7 * 86_400.0  # seconds for which an upload can be continued
_LONGEST_NAME = 255  # bytes, of most file systems
_LONGEST_PATH = 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = 2**20  # bytes


class UploadExists(PrefectureError):
    """There is a file of that name. Delete it first, or ask to overwrite it."""


class UploadBusy(PrefectureError):
    """Another request uploads the same file. Wait for it, or end it."""


class QuotaExceeded(PrefectureError):
    """There is no space for the file. Delete others, or ask the operator for more."""


@dataclass(frozen=True)
class Uploaded:
    """A file of a user."""

    path: str
    """Relative to the user's folder."""
    source: str
    """What a payload names."""
    bytes: int
    modified: float
    """Seconds since 1970."""


class Part:
    """An upload that is not whole yet. Its methods block."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes so far."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        while self.size < offset:
            some = os.read(descriptor, min(_READ, offset - self.size))
            self._digest.update(some)
            self.size += len(some)
        os.ftruncate(descriptor, offset)

    def write(self, some: bytes) -> None:
        """Append bytes."""
        view = memoryview(some)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._digest.update(some)
        self.size += len(some)

    @property
    def sha256(self) -> str:
        """Of the bytes so far, hexadecimal."""
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Have the disk keep it, readable for the user of jobs."""
        os.fchmod(self._descriptor, 0o644)
        os.fsync(self._descriptor)


class Space:
    """The space for what one request receives. `reserve`: keeps more, beside what it has."""

    def __init__(self, reserve: Callable[[int, int], None]) -> None:
        self._reserve = reserve
        self.taken = 0
        """Bytes."""

    def take(self, length: int) -> None:
        """Take bytes. Raises QuotaExceeded."""
        self._reserve(self.taken, length)
        self.taken += length


class Uploads:
    """The files of all users. Its methods block. `most`: bytes of a user's files together."""

    def __init__(self, inputs: Path, most: int, least_free: int) -> None:
        self._inputs = inputs
        self._most = most
        self._least_free = least_free
        self._reserved: defaultdict[str, int] = defaultdict(int)

    def offset(self, user: str, path: str) -> int | None:
        """How many bytes of an upload have arrived; None where none was begun."""
        parts = split(path)
        with suppress(FileNotFoundError), self.folder(user, (PARTS,)) as folder:
            return os.stat(_part_name(parts), dir_fd=folder, follow_symlinks=False).st_size
        return None

    def find(self, user: str, path: str) -> Uploaded | None:
        """A file of a user; None where there is none."""
        *folders, name = split(path)
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            self.folder(user, folders) as folder,
        ):
            return _uploaded(user, "/".join(split(path)), folder, name)
        return None

    @contextmanager
    def receive(
        self, user: str, path: str, offset: int, length: int, *, overwrite: bool
    ) -> Generator[Part]:
        """Receive `length` bytes of a file, from `offset` on. Whole or not, what arrived is kept.

        Raises InvalidPayload for a path that is none, UploadExists, UploadBusy, QuotaExceeded, and
        WrongOffset where not just `offset` bytes are there.
        """
        parts = split(path)
        if not overwrite and self.find(user, path) is not None:
            raise UploadExists(f"there is a file {path!r}: delete it, or add overwrite=true")
        with self.folder(user, (PARTS,), make=True) as folder, self.reserving(user, length):
            _remove_old(folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(_part_name(parts), flags, 0o600, dir_fd=folder)
            try:
                _lock(descriptor, folder, _part_name(parts), path)
                there = os.fstat(descriptor).st_size
                if offset > there:
                    raise WrongOffset(path, there)
                yield Part(descriptor, offset)
            finally:
                os.close(descriptor)

    def publish(self, user: str, path: str, part: Part, *, overwrite: bool) -> Uploaded:
        """Give a whole upload its name. Raises UploadExists, and InvalidPayload where a folder of
        the path is a file."""
        part.sync()
        parts = split(path)
        *folders, name = parts
        try:
            with (
                self.folder(user, (PARTS,)) as source,
                self.folder(user, folders, make=True) as target,
            ):
                # The lock of the part keeps other uploads of this path away.
                if not overwrite and exists(name, target):
                    raise UploadExists(f"there is a file {path!r}: delete it first")
                os.rename(_part_name(parts), name, src_dir_fd=source, dst_dir_fd=target)
                os.fsync(target)
                found = _uploaded(user, "/".join(parts), target, name)
        except (NotADirectoryError, IsADirectoryError):
            raise InvalidPayload(
                f"path: {path!r} has a folder where there is a file, or the other way round"
            ) from None
        assert found is not None
        return found

    def discard(self, user: str, path: str) -> None:
        """Remove what has arrived of an upload."""
        with suppress(FileNotFoundError), self.folder(user, (PARTS,)) as folder:
            os.unlink(_part_name(split(path)), dir_fd=folder)

    def listed(self, user: str, under: str = "") -> Iterator[Uploaded]:
        """The files of a user, sorted by path: all, or the file `under`, or those in that folder.

        Raises InvalidPayload for a path that is none.
        """
        own = self._inputs / USERS / user
        if under and (file := self.find(user, under)) is not None:
            yield file
            return
        for folder, folders, names in os.walk(own.joinpath(*split(under)) if under else own):
            folders[:] = sorted(name for name in folders if name != PARTS)
            for name in sorted(names):
                place = Path(folder) / name
                with suppress(FileNotFoundError):  # it has just been deleted
                    status = place.lstat()
                    if stat.S_ISREG(status.st_mode):
                        path = place.relative_to(own).as_posix()
                        yield _described(user, path, status)

    def delete(self, user: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it. Raises SourceNotFound."""
        *folders, name = split(path)
        try:
            with self.folder(user, folders) as folder:
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFound(f"there is no file or folder {path!r}") from None

    def users(self) -> list[str]:
        """The users who have a folder, sorted."""
        with suppress(FileNotFoundError):
            folder = self._inputs / USERS
            return sorted(each.name for each in folder.iterdir() if each.is_dir())
        return []

    def remove_unfinished(self, user: str) -> None:
        """Remove the uploads of a user that nobody has continued for a week."""
        with suppress(FileNotFoundError), self.folder(user, (PARTS,)) as folder:
            _remove_old(folder)

    def remove_empty(self, user: str, before: float) -> None:
        """Remove the folders of a user that have been empty since a time, in seconds since 1970."""
        own = self._inputs / USERS / user
        for folder, _, _ in os.walk(own, topdown=False):
            place = Path(folder)
            with suppress(OSError):  # it has files
                if place != own and place.name != PARTS and place.stat().st_mtime < before:
                    place.rmdir()

    @contextmanager
    def reserving(self, user: str, length: int = 0) -> Generator["Space"]:
        """Keep space for what is received; more can be taken. Raises QuotaExceeded."""
        space = Space(partial(self._take, user, self._used(user)))
        try:
            space.take(length)
            yield space
        finally:
            self._reserved[user] -= space.taken

    def _take(self, user: str, used: int, mine: int, length: int) -> None:
        """Reserve bytes for a request that has reserved `mine` before, perhaps written by now."""
        used += self._reserved[user]
        if used + length > self._most:
            raise QuotaExceeded(
                f"{length:,} bytes more than {used:,} are over the limit of a user, "
                f"{self._most:,}: delete some files"
            )
        others = sum(self._reserved.values()) - mine
        free = shutil.disk_usage(self._inputs).free - others
        if free - length < self._least_free:
            raise QuotaExceeded("the disk of the inputs is nearly full: ask the operator")
        self._reserved[user] += length

    def _used(self, user: str) -> int:
        used = 0
        for folder, _, names in os.walk(self._inputs / USERS / user):
            for name in names:
                with suppress(FileNotFoundError):
                    used += (Path(folder) / name).lstat().st_size
        return used

    @contextmanager
    def folder(
        self, user: str, parts: list[str] | tuple[str, ...], *, make: bool = False
    ) -> Generator[int]:
        """Open a folder of a user, and close it with the block.

        Raises FileNotFoundError, and NotADirectoryError for a link too.
        """
        if make:
            self._inputs.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._inputs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in (USERS, user, *parts):
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=descriptor)
                below = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


class WrongOffset(PrefectureError):
    """The upload is at another place. Continue it there."""

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(f"{offset:,} bytes of {path!r} have arrived: continue there")
        self.offset = offset


def split(path: str) -> list[str]:
    """The parts of a path. Raises InvalidPayload where it is none of a file of a user."""
    parts = path.split("/")
    if len(path.encode(errors="surrogatepass")) > _LONGEST_PATH:
        raise InvalidPayload(f"path: it is longer than {_LONGEST_PATH} bytes")
    for part in parts:
        if not part or part.startswith(".") or not part.isprintable():
            raise InvalidPayload(
                f"path: {part[:80]!r} is no name of a file or folder: it may not be empty, begin "
                "with '.', or have unprintable characters"
            )
        if len(part.encode()) > _LONGEST_NAME:
            raise InvalidPayload(f"path: {part[:80]!r}… is longer than {_LONGEST_NAME} bytes")
    return parts


def _part_name(parts: list[str]) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _lock(descriptor: int, folder: int, name: str, path: str) -> None:
    """Lock a part. Raises UploadBusy where another request has it, or has just published it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if os.path.samestat(there, os.fstat(descriptor)):
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise UploadBusy(f"another request uploads {path!r}: wait for its end")


def exists(name: str, folder: int) -> bool:
    """Whether there is a file, a folder or a link of that name in an open folder."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove_old(folder: int) -> None:
    """Remove uploads that nobody has continued for a week."""
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if status.st_mtime < time.time() - _KEPT:
                if stat.S_ISDIR(status.st_mode):  # of an archive, whose gateway was killed
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)


def _uploaded(user: str, path: str, folder: int, name: str) -> Uploaded | None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return _described(user, path, status) if stat.S_ISREG(status.st_mode) else None


def _described(user: str, path: str, status: os.stat_result) -> Uploaded:
    return Uploaded(path, f"{USERS}/{user}/{path}", status.st_size, status.st_mtime)
