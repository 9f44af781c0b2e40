"""Reading of tarballs that a job sends: plain members alone, in bounded time and memory.

Python's own reader takes members that are larger than the tarball (sparse files), heads of any
length, and offsets that lead backwards.
"""

import tarfile
from collections.abc import Iterator
from typing import IO

from tasks.containers.broker.http import Refused

_MOST_MEMBERS = 60_000  # the flow puts 50,000 into a context at most
_MOST_EXTENDED = 2**14  # bytes of an extended head, which has long names
_MOST_NAMES = 2**26  # bytes of all extended heads
_BLOCK = tarfile.BLOCKSIZE
_KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)
_EXTENDED = {"path", "linkpath", "mtime", "uid", "gid", "uname", "gname", "hdrcharset"}


def members(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The members of a tarball, each with the file at the beginning of its content.

    Raises Refused, tarfile.TarError or ValueError where it is not plain.
    """
    at, count, names = 0, 0, 0
    extended: dict[str, str] = {}
    while True:
        file.seek(at)
        block = file.read(_BLOCK)
        if block == bytes(_BLOCK):  # the end
            return
        head = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        count += 1
        if count > 2 * _MOST_MEMBERS:
            raise Refused(413, f"a context may have {_MOST_MEMBERS:,} members")
        if head.size < 0:
            raise Refused(400, "a context has a member of a negative size")
        at += _BLOCK
        if head.type == tarfile.XHDTYPE:
            names += head.size
            if extended or head.size > _MOST_EXTENDED or names > _MOST_NAMES:
                raise Refused(400, "a context has names that are too long")
            extended = _extended(file.read(head.size))
        elif head.type in _KINDS and (head.isreg() or not head.size):
            yield _plain(head, extended)
            extended = {}
        else:
            raise Refused(400, f"a context cannot have the member {head.name[:100]}")
        at += -(-head.size // _BLOCK) * _BLOCK


def _plain(head: tarfile.TarInfo, extended: dict[str, str]) -> tarfile.TarInfo:
    name = extended.get("path", head.name)
    made = tarfile.TarInfo(name.removeprefix("./").rstrip("/"))
    made.mode, made.mtime, made.size = head.mode, head.mtime, head.size
    made.type = tarfile.REGTYPE if head.isreg() else head.type
    made.linkname = extended.get("linkpath", head.linkname)
    return made


def _extended(data: bytes) -> dict[str, str]:
    """The fields of an extended head: `<length> <name>=<value>` in a line each."""
    found: dict[str, str] = {}
    while data:
        digits, _, _ = data.partition(b" ")
        length = int(digits)
        field = data[len(digits) + 1 : length]
        if not len(digits) < length <= len(data) or not field.endswith(b"\n"):
            raise ValueError("a head is damaged")
        name, _, value = field[:-1].decode("utf-8", "surrogateescape").partition("=")
        if name not in _EXTENDED or name in found:
            raise Refused(400, f"a context cannot have the field {name[:100]}")
        found[name] = value
        data = data[length:]
    return found
