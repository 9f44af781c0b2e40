"""Finds content of a file that libvips would lose: further pictures, videos, private data.

This module reads only the structure of files, never pixels.
"""

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from tasks.images.signatures import Format, Unreadable

# Largest metadata box of HEIF or MP4, in bytes, that is examined.
MAX_BOX = 32 * 2**20

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MPF_KINDS = {
    0x010001: "a preview",
    0x010002: "a preview",
    0x020001: "a part of a panorama",
    0x020002: "the other picture of a stereo pair",
    0x020003: "another angle",
}
_AUXILIARY = {
    "urn:com:apple:photo:2020:aux:hdrgainmap": "a gain map (HDR)",
    "urn:com:apple:photo:2018:aux:portraiteffectsmatte": "a portrait matte",
    "urn:mpeg:hevc:2015:auxid:2": "a depth map",
    "urn:mpeg:mpegB:cicp:systems:auxiliary:depth": "a depth map",
}
_ALPHA = ("urn:mpeg:hevc:2015:auxid:1", "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
_PNG_KNOWN = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI mDCv cLLi tEXt zTXt iTXt "
    b"bKGD hIST pHYs sPLT eXIf tIME oFFs pCAL sCAL "
    b"acTL fcTL "  # of an animation with one frame
    b"iDOT vpAg caNv orNT".split()  # of Apple and ImageMagick, no picture content
)
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


def beside(source: Path, format: Format) -> list[str]:
    """List the content of a file beside its picture, in words. Raises Unreadable.

    `tasks.images.tiff` examines TIFF directories, and libvips counts frames and pages.
    """
    find = {"jpeg": _beside_jpeg, "png": _beside_png, "avif": _beside_heif, "heic": _beside_heif}
    if format not in find:
        return []
    try:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all:
            return find[format](all)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except (struct.error, IndexError):
        return []  # truncated: the decoder reports it


def _beside_jpeg(data: mmap.mmap) -> list[str]:
    found: list[str] = []
    listed = 0
    at = 2
    while data[at] == 0xFF and (marker := data[at + 1]) != 0xD9:
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        segment = data[at + 4 : at + 2 + min(length, 80)]
        if marker == 0xE2 and segment.startswith(b"MPF\x00"):
            pictures, listed = _multi_pictures(data[at + 8 : at + 2 + length])
            found += pictures
        elif marker == 0xEB and segment[:2] == b"JP":
            found.append("a JUMBF box (such as content credentials)")
        elif marker == 0xE1 and segment.startswith(b"http://ns.adobe.com/xmp/extension/"):
            found.append("extended XMP (such as a depth map)")
        at += 2 + length
        if marker == 0xDA:
            following = _MARKER.search(data, at)
            if following is None:
                return []
            at = following.start()
    rest = data[at + 2 :] if len(data) - at < MAX_BOX else data[at + 2 : at + 2 + MAX_BOX]
    if len(data) - at - 2 > listed and rest.strip(b"\x00\xff\r\n ") and not listed:
        found.append(_trailer(rest, len(data) - at - 2))
    elif listed and b"ftyp" in rest[listed:] and len(data) - at - 2 > listed:
        found.append(_trailer(rest[listed:], len(data) - at - 2 - listed))
    return list(dict.fromkeys(found))


def _multi_pictures(segment: bytes) -> tuple[list[str], int]:
    """The further pictures of an MPF index, and their total size in bytes."""
    order = "<" if segment[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", segment, 4)
    (count,) = struct.unpack_from(f"{order}H", segment, at)
    found: list[str] = []
    size = 0
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, _, length, offset = struct.unpack_from(f"{order}HHII", segment, entry)
        if tag != 0xB002:
            continue
        for number in range(1, length // 16):
            attribute, size_of, _ = struct.unpack_from(f"{order}III", segment, offset + 16 * number)
            kind = _MPF_KINDS.get(attribute & 0xFFFFFF, "such as a gain map for HDR")
            found.append(f"picture {number + 1} of {length // 16} ({kind})")
            size += size_of
    return found, size


def _trailer(rest: bytes, size: int) -> str:
    if b"ftyp" in rest[:4096] or b"MotionPhoto" in rest[-4096:]:
        return f"a video of {size:,} bytes after the picture (motion photo)"
    return f"{size:,} bytes after the end of the picture"


def _beside_png(data: mmap.mmap) -> list[str]:
    found: list[str] = []
    private: list[str] = []
    profile = gamma = frames = None
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"acTL":
            frames = struct.unpack_from(">I", data, at + 8)[0] if length >= 4 else 0
        elif name in (b"fcTL", b"IDAT"):
            # libvips reads only the image before the first fdAT: other frames would be lost
            # silently. One frame that is this image is no animation.
            if frames is not None and (frames != 1 or name == b"IDAT"):
                raise Unreadable("format animated PNG is not supported")
            frames = None
        if name == b"CgBI":
            raise Unreadable("format PNG as rewritten for iPhone apps (CgBI) is not supported")
        if name in (b"iCCP", b"sRGB"):
            profile = name
        elif name == b"gAMA":
            (gamma,) = struct.unpack_from(">I", data, at + 8)
        elif name == b"cICP":
            transfer = _HDR_TRANSFERS.get(data[at + 9])
            if transfer:
                raise Unreadable(f"PNG with HDR colours ({transfer}) is not supported")
        elif name not in _PNG_KNOWN and name.isalpha():
            private.append(name.decode("ascii"))
        at += 12 + length
        if name == b"IEND":
            if data[at:].strip(b"\x00\r\n "):
                found.append(f"{len(data) - at:,} bytes after the end of the picture")
            break
    # A difference of 20 % from sRGB's gamma is visible. libvips reads neither gAMA nor cHRM.
    if gamma and profile is None and not 36_000 < gamma < 55_000:
        found.append(f"the gamma of {100_000 / gamma:.2g} (gAMA)")
    if private:
        found.append(f"private chunks ({', '.join(dict.fromkeys(private))})")
    return found


def _beside_heif(data: mmap.mmap) -> list[str]:
    found: list[str] = []
    for name, start, end in boxes(data, 0, len(data)):
        if name == b"moov" and end - start <= MAX_BOX:
            frames = _frames(data, start, end)
            if frames > 1:
                found.append(f"{frames - 1:,} more frames of its sequence")
        elif name == b"meta" and end - start <= MAX_BOX:
            found += _auxiliary(data, start + 4, end)
    return found


def boxes(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over boxes of an ISO base media file: type, start and end of the content."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if size == 0 else min(start + size, end)
        if stop < start + head:
            return
        yield name, start + head, stop
        start = stop


def _frames(data: mmap.mmap, start: int, end: int) -> int:
    """Number of samples in the longest track."""
    longest = 0
    for name, inner, stop in boxes(data, start, end):
        if name in (b"trak", b"mdia", b"minf", b"stbl"):
            longest = max(longest, _frames(data, inner, stop))
        elif name == b"stsz":
            longest = max(longest, struct.unpack_from(">I", data, inner + 8)[0])
    return longest


def _auxiliary(data: mmap.mmap, start: int, end: int) -> list[str]:
    found: list[str] = []
    profile = transfer = None
    for name, inner, stop in _nested(data, start, end):
        if name == b"auxC":
            urn = data[inner + 4 : stop].split(b"\x00", 1)[0].decode("ascii", "replace")
            if urn not in _ALPHA:
                found.append(_AUXILIARY.get(urn, f"an auxiliary picture ({urn})"))
        elif name == b"infe" and data[inner + 8 : inner + 12] == b"tmap":
            found.append("a gain map (HDR)")
        elif name == b"colr":
            kind = data[inner : inner + 4]
            if kind == b"nclx":
                transfer = _HDR_TRANSFERS.get(struct.unpack_from(">H", data, inner + 6)[0])
            else:
                profile = kind
    if transfer and profile is None:
        raise Unreadable(f"HEIF with HDR colours ({transfer}) is not supported")
    return list(dict.fromkeys(found))


def _nested(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for name, inner, stop in boxes(data, start, end):
        yield name, inner, stop
        if name in (b"iprp", b"ipco"):
            yield from _nested(data, inner, stop)
        elif name == b"iinf":
            yield from _nested(data, inner + (6 if data[inner] == 0 else 8), stop)
