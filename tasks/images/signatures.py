"""Recognises file formats by their first bytes; file names are ignored."""

from pathlib import Path
from typing import Literal

Format = Literal["jpeg", "png", "webp", "avif", "tiff", "gif", "heic"]

_HEAD = 64 * 1024
_RAW = "{} (camera raw) is not supported: develop it first, for instance to TIFF"

_SIGNATURES: dict[bytes, Format] = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
}
_RAWS = {
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\x00": "RW2",
    b"FUJIFILMCCD-RAW": "RAF",
    b"FOVb": "X3F",
    b"\x00MRM": "MRW",
}
_UNSUPPORTED = {
    b"BM": "BMP",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"8BPS": "PSD",
    b"gimp xcf": "XCF",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x02\x00": "CUR",
    b"icns": "ICNS",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"II\xbc": "JPEG XR",
    b"\x8aMNG": "MNG",
    b"\x8bJNG": "JNG",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"AT&TFORM": "DjVu",
    b"SIMPLE  =": "FITS",
    b"\x1aE\xdf\xa3": "Matroska (a video)",
    b"/* XPM": "XPM",
    **{b"P%d%c" % (kind, end): "PNM" for kind in range(1, 8) for end in (10, 13, 32)},
}
_HEIC_BRANDS = (b"hei", b"hev", b"mif1", b"msf1")
_VIDEO_BRANDS = (b"isom", b"mp4", b"qt  ", b"M4V", b"3gp", b"avc1", b"iso")


class Unreadable(Exception):
    """The file is not a picture that can be processed; the message gives the reason in one line."""


def recognise(source: Path) -> Format:
    """Recognise a file's format by its content. Raises Unreadable naming another known format."""
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if not head:
        raise Unreadable("empty file")
    for signature, format in _SIGNATURES.items():
        if head.startswith(signature):
            if format == "tiff" and head[8:10] == b"CR":
                raise Unreadable(_RAW.format("CR2"))
            return format
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _of_brands(head[8 : min(int.from_bytes(head[:4]), 256)])
    for signature, raw in _RAWS.items():
        if head.startswith(signature):
            raise Unreadable(_RAW.format(raw))
    for signature, unsupported in _UNSUPPORTED.items():
        if head.startswith(signature):
            raise Unreadable(f"format {unsupported} is not supported")
    if head[128:132] == b"DICM":
        raise Unreadable("format DICOM is not supported")
    if b"<svg" in head[:1024]:
        raise Unreadable("format SVG is not supported")
    raise Unreadable("not an image")


def _of_brands(brands: bytes) -> Format:
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    if b"crx " in brands:
        raise Unreadable(_RAW.format("CR3"))
    if any(brand in brands for brand in _HEIC_BRANDS):
        return "heic"
    if any(brand in brands for brand in _VIDEO_BRANDS):
        raise Unreadable("format MP4 (a video) is not supported")
    raise Unreadable("not an image")
