"""Reads a tar archive as it arrives, in little memory: regular files, and nothing else.

Headers are parsed by tarfile; members are not extracted by it, whose readers of extended headers
keep as much in memory as an archive says.
"""

import tarfile
from dataclasses import dataclass
from typing import Protocol

from tasks.errors import InvalidPayload

MOST_MEMBERS = 100_000
"""Files and folders in one archive."""
DIGEST = "PREFECTURE.sha256"
"""Key of a record of an extended header: the SHA-256 of the file, hexadecimal."""
_BLOCK = tarfile.BLOCKSIZE
_LONGEST_RECORDS = 64 * 2**10  # bytes of an extended header: names have 1,024 at most
_MOST_PADDING = 2**20  # bytes behind the end of an archive
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True)
class Member:
    """A file of an archive."""

    name: str
    size: int
    sha256: str | None


class Source(Protocol):
    """The bytes of an archive, in order."""

    async def read(self, most: int) -> bytes:
        """The next bytes, `most` at most; none at the end."""
        ...


class TarReader:
    """Reads members one after the other; the content of each, before the next one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # bytes of the current member
        self._padding = 0
        self._members = 0

    async def next(self) -> Member | None:
        """The next file, whose content `read` returns; None at the end.

        Raises InvalidPayload for a link, a device, and all else that is no file or folder, and
        where this is no archive, or one that ends too early.
        """
        if self._left:
            raise RuntimeError("the content of a member has to be read before the next one")
        records: dict[str, str] = {}
        name = ""
        while True:
            await self._exactly(self._padding)
            self._padding = 0
            block = await self._block()
            if block is None:
                return None
            head = _parsed(block)
            if head.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records |= _records(await self._extension(head))
                continue
            if head.type == tarfile.XGLTYPE:
                _records(await self._extension(head))  # of all members: a comment, or a time
                continue
            if head.type == tarfile.GNUTYPE_LONGNAME:
                name = _text((await self._extension(head)).rstrip(b"\0"))
                continue
            self._members += 1
            if self._members > MOST_MEMBERS:
                raise InvalidPayload(f"the archive has more than {MOST_MEMBERS:,} files: send two")
            own = records.get("path") or name or head.name
            if head.type == tarfile.DIRTYPE:
                records, name = {}, ""
                continue
            if head.type not in _FILES or any(key.startswith("GNU.sparse.") for key in records):
                kind = _KINDS.get(head.type, "no file")
                if head.type in _FILES:
                    kind = "a sparse file"
                raise InvalidPayload(
                    f"the archive: {own[:80]!r} is {kind}: only files and folders are taken"
                )
            size = _size(records.get("size"), head.size)
            self._left, self._padding = size, -size % _BLOCK
            return Member(own.removeprefix("./"), size, records.get(DIGEST))

    async def read(self, most: int) -> bytes:
        """The next bytes of the current member; none at its end. Raises InvalidPayload."""
        some = await self._some(min(most, self._left)) if self._left else b""
        self._left -= len(some)
        return some

    async def _block(self) -> bytes | None:
        """The next header; None at the end of the archive, which is then read to its last byte."""
        block = await self._source.read(_BLOCK)
        while 0 < len(block) < _BLOCK:
            block += await self._some(_BLOCK - len(block))
        if block and any(block):
            return block
        padding = 0
        while some := await self._source.read(_MOST_PADDING):
            padding += len(some)
            if padding > _MOST_PADDING or any(some):
                raise InvalidPayload("the archive: there is something behind its end")
        if not block and not self._members:
            raise InvalidPayload("the archive is empty: send one that `tar -c` has made")
        return None

    async def _extension(self, head: tarfile.TarInfo) -> bytes:
        if not 0 <= head.size <= _LONGEST_RECORDS:
            raise InvalidPayload(
                f"the archive: an extended header has {head.size:,} bytes, and "
                f"{_LONGEST_RECORDS:,} may be: names are too long"
            )
        content = await self._exactly(head.size)
        await self._exactly(-head.size % _BLOCK)
        return content

    async def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += await self._some(size - len(found))
        return found

    async def _some(self, most: int) -> bytes:
        some = await self._source.read(most)
        if not some:
            raise InvalidPayload("the archive ends in the middle: send it again")
        return some


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InvalidPayload(
            f"the archive is none that `tar -c` makes: {error}: compress it by gzip, or not at all"
        ) from error


def _records(content: bytes) -> dict[str, str]:
    """The records of an extended header, each with its length, a key and a value.

    Raises InvalidPayload.
    """
    found: dict[str, str] = {}
    while content:
        length, space, _ = content.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        record, content = content[:size], content[size:]
        key, equals, value = record[len(length) + 1 :].partition(b"=")
        if not space or not equals or not value.endswith(b"\n"):
            raise InvalidPayload("the archive: an extended header is damaged: send it again")
        found[_text(key)] = _text(value[:-1])
    return found


def _size(record: str | None, size: int) -> int:
    if record is not None:
        size = int(record) if record.isdecimal() and len(record) < 20 else -1
    if size < 0:
        raise InvalidPayload("the archive: the size of a file is no number: send it again")
    return size


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
