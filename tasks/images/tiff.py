"""Reads the directories of a TIFF file: every picture in it, and how its samples are stored.

libvips opens the first directory and says little about the others. Cameras, scanners and Photoshop
store more in a file: previews, layers, raw data in sub-directories.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.images.signatures import Unreadable

# A limit against endless chains of directories; no scanner writes this many pages.
MAX_DIRECTORIES = 20_000
_MAX_ENTRIES = 4_096
_MAX_VALUES = 64
_MAX_DEPTH = 3

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _SUB_DIRECTORIES, _SAMPLE_FORMAT = 277, 284, 330, 339
_ORIENTATION = 274
_WANTED = {
    *(_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC),
    *(_SAMPLES, _PLANAR, _SUB_DIRECTORIES, _SAMPLE_FORMAT, _ORIENTATION),
}
# What pages must have in common for libvips to read them together, in words; with the default.
_COMMON = {
    "depth": (_BITS, 1),
    "number of channels": (_SAMPLES, 1),
    "kind of colours": (_PHOTOMETRIC, 0),
    "kind of samples": (_SAMPLE_FORMAT, 1),
    "orientation": (_ORIENTATION, 1),
}
_DNG_VERSION = 50706
_LAYERS, _GEO_KEYS, _EXIF, _GPS = 37724, 34735, 34665, 34853

_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_RAW_PHOTOMETRIC = (32803, 34892)
_YCBCR, _CIELAB = 6, 8
_PHOTOMETRICS = {
    4: "a mask",
    9: "ICC LAB colours",
    10: "ITU LAB colours",
    32844: "LogL colours",
    32845: "LogLuv colours",
}
_COMPRESSIONS = {
    6: "old-style JPEG",
    32767: "Sony raw",
    34676: "SGI Log",
    34677: "SGI Log",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_JPEG = 7
_FLOAT, _COMPLEX = 3, (5, 6)


@dataclass(frozen=True)
class Directory:
    """One picture of a TIFF file."""

    values: Mapping[int, Sequence[int]]
    tags: frozenset[int]
    subs: tuple["Directory", ...] = ()

    @property
    def width(self) -> int:
        """The width in pixels."""
        return self.first(_WIDTH)

    @property
    def height(self) -> int:
        """The height in pixels."""
        return self.first(_HEIGHT)

    @property
    def is_reduced(self) -> bool:
        """Whether it is marked as a smaller copy of another picture in the file."""
        return bool(self.first(_SUBFILE) & 1)

    @property
    def is_raw(self) -> bool:
        """Whether it holds, or belongs to, raw data of a camera's sensor."""
        return self.first(_PHOTOMETRIC) in _RAW_PHOTOMETRIC or _DNG_VERSION in self.tags

    @property
    def is_lab_of_8_bit(self) -> bool:
        """Whether it is CIELAB of 8 bits, as Photoshop writes it."""
        return self.first(_PHOTOMETRIC) == _CIELAB and self._bits == {8}

    @property
    def size(self) -> str:
        """Width and height in words, in pixels."""
        return f"{self.width} x {self.height}"

    def unsupported(self) -> str | None:
        """The feature that cannot be read, in words; None where there is none."""
        photometric, compression = self.first(_PHOTOMETRIC), self.first(_COMPRESSION, 1)
        if photometric in _PHOTOMETRICS:
            return _PHOTOMETRICS[photometric]
        if photometric == _YCBCR and compression != _JPEG:
            return "YCbCr colours without JPEG compression"
        if self.first(_SAMPLE_FORMAT, 1) in _COMPLEX:
            return "complex numbers"
        if len(self._bits) > 1:
            return "channels of different depths"
        return None

    def explanation(self) -> str | None:
        """Why libvips may have refused an undamaged picture; None where no reason is known."""
        bits = next(iter(self._bits))
        if bits not in (1, 2, 4, 8, 16, 32):
            kind = "-bit float" if self.first(_SAMPLE_FORMAT, 1) == _FLOAT else "-bit"
            return f"{bits}{kind} samples"
        if name := _COMPRESSIONS.get(self.first(_COMPRESSION, 1)):
            return f"{name} compression"
        if self.first(_PHOTOMETRIC) == _CIELAB:
            return f"LAB colours of {bits} bits"
        return None

    @property
    def _bits(self) -> set[int]:
        return set(self.values.get(_BITS, ())) or {1}

    def first(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return next(iter(self.values.get(tag, ())), default)


def read_directories(source: Path) -> list[Directory]:
    """Read the complete directories of a file, in order. Raises Unreadable."""
    try:
        with source.open("rb") as file:
            reader = _Reader(file)
            return list(reader.chain(reader.first, 0))
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except struct.error:
        return []  # damaged: libvips reports it


def check(directories: Sequence[Directory]) -> None:
    """Raise Unreadable where the first picture is not the main one, or cannot be read."""
    first = directories[0]
    if any(each.is_raw for each in _all(directories)):
        raise Unreadable(
            "camera raw (DNG, NEF, ARW and the like) is not supported: develop it first, for "
            "instance to TIFF"
        )
    larger = [each for each in _all(directories) if not each.is_reduced]
    if first.is_reduced and larger:
        raise Unreadable(
            f"the first picture is only a preview ({first.size}) of another of {larger[0].size}, "
            "as in camera raw (NEF, DNG): develop it first, for instance to TIFF"
        )
    if what := first.unsupported():
        raise Unreadable(f"TIFF with {what} is not supported")


def beside(directories: Sequence[Directory]) -> list[str]:
    """List content of a file beside its pages, in words, that libvips would lose."""
    found: list[str] = []
    for sub in (each for page in directories for each in _all(page.subs)):
        what = "a smaller copy" if sub.is_reduced else "a further picture"
        found.append(f"{what} of {sub.size} in a sub-directory")
    tags = frozenset[int]().union(*(page.tags for page in directories))
    if _LAYERS in tags:
        found.append("Photoshop layers")
    if _GEO_KEYS in tags:
        found.append("the georeference (GeoTIFF)")
    return found


def difference(directories: Sequence[Directory]) -> str | None:
    """How the first page that is unlike page 1 differs from it, in words; None for none."""
    for number, page in enumerate(directories[1:], start=2):
        first = directories[0]
        if page.size != first.size:
            return f"page {number} is {page.size}, and page 1 {first.size}"
        for what, (tag, default) in _COMMON.items():
            if page.first(tag, default) != first.first(tag, default):
                return f"page {number} has another {what} than page 1"
    return None


def has_exif(directories: Sequence[Directory]) -> bool:
    """Whether the first page has EXIF or GPS data, which libvips does not read from TIFF."""
    return bool(directories and directories[0].tags & {_EXIF, _GPS})


def _all(directories: Sequence[Directory]) -> Iterator[Directory]:
    for directory in directories:
        yield directory
        yield from _all(directory.subs)


class _Reader:
    """Reads TIFF and BigTIFF, of either byte order."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = file.read(16)
        self._order = "<" if head[:2] == b"II" else ">"
        self._big = head[2:4] in (b"+\x00", b"\x00+")
        self._word = "Q" if self._big else "I"
        (self.first,) = struct.unpack_from(self._order + self._word, head, 8 if self._big else 4)
        self._seen: set[int] = set()

    def chain(self, offset: int, depth: int) -> Iterator[Directory]:
        """Iterate over the directory at an offset and those that follow it."""
        while offset and offset not in self._seen and len(self._seen) < MAX_DIRECTORIES:
            self._seen.add(offset)
            try:
                directory, offset = self._directory(offset, depth)
            except struct.error:
                return  # truncated: libvips reports it for the page
            yield directory

    def _directory(self, offset: int, depth: int) -> tuple[Directory, int]:
        self._file.seek(offset)
        (count,) = self._unpack("Q" if self._big else "H")
        count = min(count, _MAX_ENTRIES)
        size = 20 if self._big else 12
        entries = self._file.read(count * size)
        (following,) = self._unpack(self._word)
        values: dict[int, Sequence[int]] = {}
        tags: set[int] = set()
        for at in range(0, len(entries) - size + 1, size):
            tag, kind = struct.unpack_from(f"{self._order}HH", entries, at)
            tags.add(tag)
            if tag in _WANTED and kind in _CODES:
                values[tag] = self._values(kind, entries[at + 4 : at + size])
        subs: list[Directory] = []
        if depth < _MAX_DEPTH:
            for each in values.get(_SUB_DIRECTORIES, ()):
                subs.extend(self.chain(each, depth + 1))
        return Directory(values, frozenset(tags), tuple(subs)), following

    def _values(self, kind: int, held: bytes) -> Sequence[int]:
        (count,) = struct.unpack_from(self._order + self._word, held)
        code = f"{self._order}{min(count, _MAX_VALUES)}{_CODES[kind]}"
        content = held[struct.calcsize(self._word) :]
        if struct.calcsize(code) > len(content):
            (offset,) = struct.unpack(self._order + self._word, content)
            self._file.seek(offset)
            content = self._file.read(struct.calcsize(code))
        return struct.unpack_from(code, content)

    def _unpack(self, code: str) -> tuple[int, ...]:
        code = self._order + code
        return struct.unpack(code, self._file.read(struct.calcsize(code)))
