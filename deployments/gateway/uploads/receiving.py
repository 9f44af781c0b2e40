"""Receives what users upload: in a file of this disk, until it is whole.

A file is written to `.uploads` in its user's folder under the inputs root, which no source reads,
and gets its name in a store once it is whole. An upload that breaks off leaves there what has
arrived, and can be continued; so can one that is whole, while the store is away.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from deployments.gateway.uploads.folders import exists, open_folder
from deployments.gateway.uploads.records import (
    PARTS,
    USERS,
    QuotaExceeded,
    Staged,
    UploadBusy,
    Uploaded,
    WrongOffset,
    split,
)
from deployments.gateway.uploads.store import Store

FLUSHED = 16 * 2**20
"""Bytes of an upload that are written before the disk is asked to keep them."""
_KEPT = 7 * 86_400.0  # seconds for which an upload can be continued
_READ = 2**20  # bytes
_PUT_AT_ONCE = 8  # requests whose files get their names: in S3, that is long for large ones
_WRITTEN_AT_ONCE = 16  # digests and flushes
_T = TypeVar("_T")


class Part:
    """An upload that is not whole yet. Its methods block. `threads`: digest what is written, and
    have the disk keep it while more arrives, so that the end has little to wait for."""

    def __init__(self, descriptor: int, offset: int, threads: Executor) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self._flushing: Future[None] | None = None
        self._flushed = offset
        """Bytes that the disk was asked to keep."""
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes so far."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        while self.size < offset:
            some = os.read(descriptor, min(_READ, offset - self.size))
            self._digest.update(some)
            self.size += len(some)
        os.ftruncate(descriptor, offset)

    def write(self, some: bytes | memoryview) -> None:
        """Append bytes, and digest them meanwhile: that takes longer."""
        digesting = self._threads.submit(self._digest.update, some)
        try:
            view = memoryview(some)
            while view:
                view = view[os.write(self._descriptor, view) :]
        finally:
            digesting.result()
        self.size += len(some)
        is_free = self._flushing is None or self._flushing.done()
        if is_free and self.size - self._flushed >= FLUSHED:
            self._flushed = self.size
            self._flushing = self._threads.submit(os.fdatasync, self._descriptor)

    @property
    def sha256(self) -> str:
        """Of the bytes so far, hexadecimal."""
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Have the disk keep it, readable for the user of jobs."""
        os.fchmod(self._descriptor, 0o644)
        if self._flushing is not None:
            self._flushing.result()  # raises what the disk has told it, and tells only once
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Wait until nothing uses its file. What the disk could not keep is not continued."""
        if self._flushing is not None and self._flushing.exception() is not None:
            os.ftruncate(self._descriptor, 0)


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
    """What is being uploaded by all users. Its methods block, but for `in_background`.

    `store`: where whole files are. `inputs`: the inputs root, on this disk. `most`: bytes of a
    user's files together. `least_free`: bytes of the disk that stay free.
    """

    def __init__(self, store: Store, inputs: Path, most: int, least_free: int) -> None:
        self.store = store
        self._inputs = inputs
        self._most = most
        self._least_free = least_free
        self._reserved: defaultdict[str, int] = defaultdict(int)
        self._threads = ThreadPoolExecutor(_PUT_AT_ONCE, thread_name_prefix="uploads")
        self._writing = ThreadPoolExecutor(_WRITTEN_AT_ONCE, thread_name_prefix="parts")

    async def in_background(self, work: Callable[[], _T]) -> _T:
        """Do what may take as long as S3 does, in none of the threads that others wait for."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def offset(self, user: str, path: str) -> int | None:
        """How many bytes of an upload have arrived; None where none was begun."""
        parts = split(path)
        with suppress(FileNotFoundError), self.parts(user) as folder:
            return os.stat(_part_name(parts), dir_fd=folder, follow_symlinks=False).st_size
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
        self.store.check(user, path, overwrite=overwrite)
        with self.parts(user, make=True) as folder, self.reserving(user, length):
            _remove_old(folder)
            with _locked(folder, _part_name(parts), path) as descriptor:
                there = os.fstat(descriptor).st_size
                if offset > there:
                    raise WrongOffset(path, there)
                part = Part(descriptor, offset, self._writing)
                try:
                    yield part
                finally:
                    part.close()

    def publish(self, user: str, path: str, part: Part, *, overwrite: bool) -> Uploaded:
        """Give a whole upload its name. Raises as the store's `put`; what has arrived stays."""
        part.sync()
        with self.parts(user) as folder:
            # The lock of the part keeps other uploads of this path away.
            staged = Staged(path, folder, _part_name(split(path)))
            (found,) = self.store.put(user, [staged], overwrite=overwrite)
        return found

    def discard(self, user: str, path: str) -> None:
        """Remove what has arrived of an upload."""
        with suppress(FileNotFoundError), self.parts(user) as folder:
            os.unlink(_part_name(split(path)), dir_fd=folder)

    def keep(self, user: str, files: Sequence[Staged]) -> None:
        """Make whole files that could not get their names uploads that can be continued, in place
        of what has arrived of the same paths. One that another request uploads is left out."""
        with self.parts(user) as folder:
            for file in files:
                name = _part_name(split(file.path))
                with suppress(UploadBusy), _locked(folder, name, file.path):
                    os.rename(file.name, name, src_dir_fd=file.folder, dst_dir_fd=folder)

    def forget(self, user: str, paths: Iterable[str]) -> None:
        """Remove what has arrived of uploads whose files have come in another way."""
        with suppress(FileNotFoundError), self.parts(user) as folder:
            for path in paths:
                name = _part_name(split(path))
                if exists(name, folder):
                    with suppress(FileNotFoundError, UploadBusy), _locked(folder, name, path):
                        os.unlink(name, dir_fd=folder)

    def remove_unfinished(self) -> None:
        """Remove the uploads that nobody has continued for a week."""
        for place in (self._inputs / USERS).glob(f"*/{PARTS}"):
            with suppress(FileNotFoundError), self.parts(place.parent.name) as folder:
                _remove_old(folder)
        self.store.remove_unfinished(time.time() - _KEPT)

    @contextmanager
    def reserving(self, user: str, length: int = 0) -> Generator["Space"]:
        """Keep space for what is received; more can be taken. Raises QuotaExceeded."""
        used = self.store.used(user) + self._arrived(user)
        space = Space(partial(self._take, user, used))
        try:
            space.take(length)
            yield space
        finally:
            self._reserved[user] -= space.taken

    @contextmanager
    def parts(self, user: str, *, below: str = "", make: bool = False) -> Generator[int]:
        """Open the folder of a user's uploads, or one in it. Raises FileNotFoundError."""
        names = [PARTS, below] if below else [PARTS]
        with open_folder(self._inputs, user, names, make=make) as folder:
            yield folder

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

    def _arrived(self, user: str) -> int:
        """The bytes of a user's uploads that have not got their names."""
        arrived = 0
        for folder, _, names in os.walk(self._inputs / USERS / user / PARTS):
            for name in names:
                with suppress(FileNotFoundError):
                    arrived += (Path(folder) / name).lstat().st_size
        return arrived


def _part_name(parts: list[str]) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


@contextmanager
def _locked(folder: int, name: str, path: str) -> Generator[int]:
    """Open a part, made where there is none, and keep other requests away. Raises UploadBusy."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        _lock(descriptor, folder, name, path)
        yield descriptor
    finally:
        os.close(descriptor)


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
