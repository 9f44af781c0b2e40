"""Archives of small files, made while they are sent: thousands of them in one request."""

import asyncio
import tarfile
from collections.abc import AsyncGenerator, Iterator, Sequence

from deployments.client.gateway.sources import Upload, changed

TYPE = "application/x-tar"
"""The type of a request's body that a gateway unpacks."""
SMALL = 2**20
"""Bytes of the largest file in an archive. A larger one is sent alone, and can be continued."""
_MOST_FILES, _MOST_BYTES = 1000, 32 * 2**20  # of one archive
_DIGEST = "PREFECTURE.sha256"  # as the gateway reads it
_END = bytes(2 * tarfile.BLOCKSIZE)


def batches(files: Sequence[Upload]) -> Iterator[list[Upload]]:
    """Files that are sent together: large ones each alone, small ones in archives."""
    batch: list[Upload] = []
    size = 0
    for file in files:
        if file.bytes > SMALL:
            yield [file]
            continue
        if len(batch) == _MOST_FILES or (batch and size + file.bytes > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.bytes
    if batch:
        yield batch


def size_of(folder: str, files: Sequence[Upload]) -> int:
    """Bytes of an archive."""
    padded = sum(file.bytes + -file.bytes % tarfile.BLOCKSIZE for file in files)
    return sum(len(_header(folder, file)) for file in files) + padded + len(_END)


async def content(folder: str, files: Sequence[Upload]) -> AsyncGenerator[bytes]:
    """An archive of files that are below a folder of their user's inputs.

    Raises InvalidPayload where one is shorter than it was.
    """
    for file in files:
        some = await asyncio.to_thread(_read, file)
        yield _header(folder, file) + some + bytes(-file.bytes % tarfile.BLOCKSIZE)
    yield _END


def _read(file: Upload) -> bytes:
    with file.place.open("rb") as opened:
        some = opened.read(file.bytes)
    if len(some) < file.bytes:
        raise changed(file)
    return some


def _header(folder: str, file: Upload) -> bytes:
    """The header of a file, with its digest, which the gateway compares."""
    info = tarfile.TarInfo(file.path.removeprefix(f"{folder}/"))
    info.size, info.mode = file.bytes, 0o644
    info.pax_headers = {_DIGEST: file.sha256}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
