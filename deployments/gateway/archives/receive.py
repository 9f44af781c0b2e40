"""Receives the body of a request that is an archive, and unpacks it."""

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from deployments.gateway.archives.staged import StagedFolder, staging
from deployments.gateway.archives.tar import Member, TarReader
from deployments.gateway.uploads.receiving import Uploads
from tasks.errors import InvalidPayload
from tasks.storage.in_threads import in_threads

AT_ONCE = 2**20
"""Bytes that are read, unpacked and written at once."""
_BATCH = 8 * 2**20  # bytes of small files that are written together
_MOST_SMALL = 500  # of them


class BrokenOff(Exception):
    """The client has gone before the end of its request."""


class Bytes:
    """The bytes of an archive, from the parts of a body. `is_gzip`: whether it is compressed."""

    def __init__(self, parts: AsyncIterator[bytes], *, is_gzip: bool) -> None:
        self._parts = parts
        self._waiting = b""
        self._digest = hashlib.sha256()
        # 31: with gzip's header. Never more than is asked for is unpacked at a time.
        self._gzip = zlib.decompressobj(31) if is_gzip else None

    async def read(self, most: int) -> bytes:
        """The next bytes, `most` at most; none at the end. Raises InvalidPayload."""
        if self._gzip is not None:
            return await self._unpacked(most)
        if not self._waiting:
            self._waiting = await self._next()
        some, self._waiting = self._waiting[:most], self._waiting[most:]
        return some

    async def rest(self) -> str:
        """Read to the end of the body. Returns the SHA-256 of all of it, hexadecimal."""
        while await self._next():
            pass
        return self._digest.hexdigest()

    async def _next(self) -> bytes:
        while (some := await anext(self._parts, None)) is not None:
            if some:
                self._digest.update(some)
                return some
        return b""

    async def _unpacked(self, most: int) -> bytes:
        gzip = self._gzip
        assert gzip is not None
        while not gzip.eof:
            packed = gzip.unconsumed_tail or await self._next()
            try:
                some = gzip.decompress(packed, most)
            except zlib.error as error:
                raise InvalidPayload(f"the archive is not compressed by gzip: {error}") from error
            if some:
                return some
            if not packed:
                raise InvalidPayload("the archive ends in the middle: send it again")
        if gzip.unused_data or await self._next():
            raise InvalidPayload("the archive: there is something behind its end")
        return b""


@dataclass(frozen=True)
class UnpackedFolder:
    """What was unpacked."""

    files: int
    bytes: int


async def receive(
    uploads: Uploads, user: str, path: str, body: Bytes, sha256: str | None, *, overwrite: bool
) -> UnpackedFolder:
    """Unpack an archive to a folder of a user, whole or not at all.

    `sha256`: of the body, where it is known. Raises InvalidPayload, UploadExists, QuotaExceeded,
    and BrokenOff, where the files stay that have arrived.
    """
    async with in_threads(staging(uploads, user, path, overwrite=overwrite)) as staged:
        try:
            await _unpack(TarReader(body), staged)
            found = await body.rest()
        except BrokenOff:
            await uploads.in_background(staged.publish)
            raise
        if sha256 not in (None, found):
            raise InvalidPayload(
                f"Repr-Digest: the SHA-256 of what has arrived is {found}: send it again"
            )
        files, size = await uploads.in_background(staged.publish)
    return UnpackedFolder(files, size)


async def _unpack(archive: TarReader, staged: StagedFolder) -> None:
    batch: list[tuple[Member, bytes]] = []
    waiting = 0

    async def flush() -> None:
        nonlocal waiting
        await asyncio.to_thread(staged.write_whole, [*batch])
        batch.clear()
        waiting = 0

    try:
        while (member := await archive.next()) is not None:
            if member.size > AT_ONCE:
                await flush()
                await _large(archive, member, staged)
                continue
            content = bytearray()
            while some := await archive.read(AT_ONCE):
                content += some
            batch.append((member, bytes(content)))
            waiting += len(content)
            if waiting >= _BATCH or len(batch) >= _MOST_SMALL:
                await flush()
    except BrokenOff:
        await flush()
        raise
    await flush()


async def _large(archive: TarReader, member: Member, staged: StagedFolder) -> None:
    await asyncio.to_thread(staged.begin, member)
    waiting = bytearray()
    while True:
        some = await archive.read(AT_ONCE)
        waiting += some
        if waiting and (not some or len(waiting) >= AT_ONCE):
            await asyncio.to_thread(staged.write, bytes(waiting))
            waiting.clear()
        if not some:
            break
    await asyncio.to_thread(staged.end, member)
