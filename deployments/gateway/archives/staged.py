"""The files of an archive, in a folder of their own until they get their names.

    users/<name>/.uploads/folder-<random>/<number>

Files are written in batches, and synced together: for thousands of small ones, that is most of the
time.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deployments.gateway.archives.tar import Member
from deployments.gateway.uploads.folders import exists
from deployments.gateway.uploads.receiving import Space, Uploads
from deployments.gateway.uploads.records import NotSent, Staged, split
from tasks.errors import InvalidPayload, OperatorError, StorageUnavailable

_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class _File:
    parts: list[str]
    number: int
    bytes: int = 0


class StagedFolder:
    """The files of one archive. Its methods block."""

    def __init__(
        self, uploads: Uploads, user: str, path: str, folder: int, space: Space, *, overwrite: bool
    ) -> None:
        self._uploads = uploads
        self._user = user
        self._path = path
        self._folder = folder
        self._space = space
        self._overwrite = overwrite
        self._files: list[_File] = []
        self._names: set[str] = set()
        self._above: set[str] = set()
        self._check = uploads.store.check_in(user, path, overwrite=overwrite)
        self._open: int | None = None
        self._digest = hashlib.sha256()

    def write_whole(self, some: Sequence[tuple[Member, bytes]]) -> None:
        """Write small files, each with its content. Raises as `begin` and `end`."""
        written: list[str] = []
        for member, content in some:
            self.begin(member)
            self.write(content)
            self._close(member)
            written.append(str(self._files[-1].number))
        for name in written:  # the first takes the time of all
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def begin(self, member: Member) -> None:
        """Check the name of a file, keep space for it, and begin it.

        Raises InvalidPayload, UploadExists and QuotaExceeded.
        """
        parts = self._checked(member.name)
        self._space.take(member.size)
        self._files.append(_File(parts, len(self._files)))
        self._open = os.open(str(self._files[-1].number), _FILE, 0o644, dir_fd=self._folder)
        os.fchmod(self._open, 0o644)
        self._digest = hashlib.sha256()

    def write(self, some: bytes) -> None:
        """Append bytes to the file that was begun."""
        assert self._open is not None
        view = memoryview(some)
        while view:
            view = view[os.write(self._open, view) :]
        self._digest.update(some)
        self._files[-1].bytes += len(some)

    def end(self, member: Member) -> None:
        """End the file that was begun. Raises InvalidPayload where it is damaged."""
        assert self._open is not None
        os.fsync(self._open)
        self._close(member)

    def publish(self) -> tuple[int, int]:
        """Give the whole files their names. Returns how many they are, and their bytes.

        Raises UploadExists, InvalidPayload where a folder of a path is a file, and NotSent.
        """
        whole = self._files[:-1] if self._open is not None else self._files
        staged = [Staged("/".join(file.parts), self._folder, str(file.number)) for file in whole]
        try:
            self._uploads.store.put(self._user, staged, overwrite=self._overwrite)
        except (StorageUnavailable, OperatorError) as error:
            left = [file for file in staged if exists(file.name, self._folder)]
            self._uploads.keep(self._user, left)
            raise NotSent(len(staged) - len(left), len(staged)) from error
        self._uploads.forget(self._user, (file.path for file in staged))
        self._files = []
        return len(whole), sum(file.bytes for file in whole)

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def _checked(self, name: str) -> list[str]:
        """The parts of a file's path."""
        parts = split(f"{self._path}/{name}")
        path = "/".join(parts)
        above = {"/".join(parts[:end]) for end in range(1, len(parts))}
        if path in self._names:
            raise InvalidPayload(f"path: {path[-80:]!r} is in the archive twice")
        if path in self._above or above & self._names:
            raise InvalidPayload(f"path: {path[-80:]!r} is a file and a folder in the archive")
        self._check(path)
        self._names.add(path)
        self._above |= above
        return parts

    def _close(self, member: Member) -> None:
        self.close()
        if member.sha256 not in (None, self._digest.hexdigest()):
            raise InvalidPayload(
                f"{member.name[-80:]!r} is not the file of its SHA-256: send it again"
            )


@contextmanager
def staging(uploads: Uploads, user: str, path: str, *, overwrite: bool) -> Generator[StagedFolder]:
    """A folder for the files of an archive that is unpacked to `path`; what is in it at the end of
    the block is removed. Raises InvalidPayload for a path that is none."""
    split(path)
    name = f"folder-{secrets.token_hex(8)}"
    with (
        uploads.parts(user, below=name, make=True) as folder,
        uploads.reserving(user) as space,
    ):
        staged = StagedFolder(uploads, user, path, folder, space, overwrite=overwrite)
        try:
            yield staged
        finally:
            staged.close()
            with suppress(FileNotFoundError), uploads.parts(user) as parts:
                shutil.rmtree(name, dir_fd=parts)
