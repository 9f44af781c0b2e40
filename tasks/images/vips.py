"""Picture files behind a small typed surface of libvips: recognised, opened, decoded, encoded.

libvips' own error text is never shown or examined: its error buffer is one per process, so under
threads a message may belong to another file. What failed is told apart by where it failed.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import pyvips

# Submitted files are hostile until shown otherwise: only the loaders that libvips' authors fuzz.
pyvips.block_untrusted_set(True)
# The operation cache would hold on to files and pixels of pictures that are done.
pyvips.cache_set_max(0)

Format = Literal["jpeg", "png", "webp", "avif", "tiff", "gif"]
VipsError = pyvips.Error

# A picture up to this size, in decoded bytes, is decoded once and encoded from memory (32 MP of
# 8 bit RGB); a larger one is streamed from its file at every encoding.
DECODED_IN_MEMORY = 96 * 2**20
# Coders that cannot stream (see `_is_whole`) need several times the decoded bytes.
DECODED_BY_WHOLE_CODER = 256 * 2**20
# Encoded bytes kept in memory, before they go to an unnamed file beside the target.
ENCODED_IN_MEMORY = 16 * 2**20

_LARGEST_SIDE: dict[Format, int] = {"jpeg": 65500, "webp": 16383, "avif": 16384, "gif": 65535}
_WHOLE_CODERS = {"webp", "avif", "gif"}
_ITEM_BYTES = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "double": 8, "complex": 8}
_UNSUPPORTED = {
    b"BM": "BMP",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    **{b"P%d%c" % (kind, end): "PNM" for kind in range(1, 8) for end in (10, 13, 32)},
}
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
_LOADERS: dict[Format, Callable[..., pyvips.Image]] = {
    "jpeg": pyvips.Image.jpegload_source,
    "png": pyvips.Image.pngload_source,
    "webp": pyvips.Image.webpload_source,
    "avif": pyvips.Image.heifload_source,
    "tiff": pyvips.Image.tiffload_source,
    "gif": pyvips.Image.gifload_source,
}
_SAVERS: dict[Format, Callable[..., None]] = {
    "jpeg": pyvips.Image.jpegsave_target,
    "png": pyvips.Image.pngsave_target,
    "webp": pyvips.Image.webpsave_target,
    "avif": pyvips.Image.heifsave_target,
    "tiff": pyvips.Image.tiffsave_target,
    "gif": pyvips.Image.gifsave_target,
}


class Unreadable(Exception):
    """The file is not a picture that can be worked on; the message is the reason, in one line."""


@dataclass(frozen=True)
class Picture:
    """A picture file: what its content says it is, and its pixels when they are in memory."""

    source: Path
    format: Format
    header: pyvips.Image
    pages: int
    pixels: pyvips.Image | None = None

    @property
    def decoded_bytes(self) -> int:
        """Size of all pages in memory, uncompressed."""
        header = self.header
        item = _ITEM_BYTES.get(str(header.format), 4)
        return header.width * header.height * header.bands * item

    def image(self) -> pyvips.Image:
        """The pixels for one pass from top to bottom, from memory or streamed from the file."""
        if self.pixels is not None:
            return self.pixels
        return load(self.source, self.format, self.pages)

    def decode(self) -> "Picture":
        """The same picture, in memory when it is small enough. Raises Unreadable when damaged."""
        if self.decoded_bytes > DECODED_IN_MEMORY:
            return self
        try:
            return replace(self, pixels=self.image().copy_memory())
        except VipsError:
            raise damaged(self.format) from None

    def verify(self) -> None:
        """Read every pixel, in bounded memory. Raises Unreadable when damaged."""
        if self.pixels is None:
            try:
                self.image().avg()
            except VipsError:
                raise damaged(self.format) from None

    def explain(self, written: Format) -> Unreadable:
        """Why encoding failed though nothing is wrong with the target: the file, or the format."""
        try:
            self.verify()
        except Unreadable as fault:
            return fault
        return Unreadable(f"{written.upper()} cannot hold this picture's pixels")


def open_picture(source: Path, all_pages: bool = True) -> Picture:
    """Recognise `source` by its content and read its header. Raises Unreadable."""
    format = _recognise(source)
    try:
        header = load(source, format)
    except VipsError:
        raise damaged(format) from None
    if format == "avif" and text(header, "heif-compression") != "av1":
        raise Unreadable("format HEIC is not supported")
    pages = number(header, "n-pages", 1) if format != "avif" else 1
    if format == "gif" and not _is_complete_gif(source):
        raise damaged(format)
    if all_pages and pages > 1:
        try:
            header = load(source, format, pages)
        except VipsError:
            raise _uneven(source, format) from None
    picture = Picture(source, format, header, pages if all_pages else 1)
    if picture.decoded_bytes > DECODED_BY_WHOLE_CODER and _is_whole(picture):
        raise too_large(picture, format)
    return picture


def load(source: Path, format: Format, pages: int = 1, access: str = "sequential") -> pyvips.Image:
    """The image in `source`, its pixels not yet read. Raises pyvips.Error, Unreadable."""
    options: dict[str, Any] = {"access": access, "fail_on": "error"}
    if format in ("webp", "tiff", "gif"):
        options["n"] = pages
    # By descriptor: a name would be searched for options ("a[page=2].tif") and must be UTF-8.
    try:
        with source.open("rb") as file:
            return _LOADERS[format](pyvips.Source.new_from_descriptor(file.fileno()), **options)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None


def encode(
    image: pyvips.Image, format: Format, options: Mapping[str, object], beside: Path
) -> IO[bytes]:
    """The encoded file: in memory, or beside the target when large, without a name.

    Raises OSError when it cannot be written, pyvips.Error for every other failure.
    """
    file = tempfile.SpooledTemporaryFile(ENCODED_IN_MEMORY, dir=str(beside.parent))  # noqa: SIM115 - the caller closes it
    failures: list[OSError] = []

    def guard(action: Callable[[], int]) -> int:
        # An exception must not cross libvips' C code, where it would be printed and forgotten.
        try:
            return action()
        except OSError as error:
            failures.append(error)
            return -1

    target = pyvips.TargetCustom()
    target.on_write(lambda data: guard(lambda: file.write(data)))
    target.on_seek(lambda offset, whence: guard(lambda: file.seek(offset, whence)))
    target.on_read(file.read)
    try:
        _SAVERS[format](image, target, **options)
    except VipsError:
        file.close()
        if failures:
            raise failures[0] from None
        raise
    if failures:  # not every saver looks at the result of its last write
        file.close()
        raise failures[0]
    return file


def metadata(image: pyvips.Image, field: str) -> object:
    """The value of a metadata field, None where there is none."""
    return image.get(field) if image.get_typeof(field) else None


def number(image: pyvips.Image, field: str, default: int) -> int:
    """An integer metadata field."""
    value = metadata(image, field)
    return value if isinstance(value, int) else default


def text(image: pyvips.Image, field: str) -> str:
    """A textual metadata field, empty where there is none."""
    value = metadata(image, field)
    return value if isinstance(value, str) else ""


def check_size(first: Picture, format: Format) -> None:
    """Raise Unreadable when `format`, or our memory, cannot hold the first page of a picture."""
    largest = _LARGEST_SIDE.get(format)
    if largest is not None and max(first.header.width, first.header.height) > largest:
        raise Unreadable(f"{format.upper()} holds at most {largest} pixels a side")
    if format in _WHOLE_CODERS and first.decoded_bytes > DECODED_BY_WHOLE_CODER:
        raise too_large(first, format)


def too_large(picture: Picture, format: Format) -> Unreadable:
    """The coder would have to hold a picture in memory that is too large for that."""
    kind = format.upper() if format in _WHOLE_CODERS else f"interlaced {format.upper()}"
    width, height = picture.header.width, picture.header.height
    return Unreadable(f"{width} x {height} pixels are too many for {kind}")


def damaged(format: Format) -> Unreadable:
    """The signature is right and what follows is not."""
    return Unreadable(f"truncated or damaged {format.upper()}")


def _uneven(source: Path, format: Format) -> Unreadable:
    """Pages that cannot be stacked: different sizes, or a directory that is cut off."""
    try:
        load(source, format).avg()
    except VipsError:
        return damaged(format)
    return Unreadable(f"{format.upper()} pages are truncated, or of different sizes")


def _is_whole(picture: Picture) -> bool:
    """Whether decoding holds the whole picture in memory: no coder can hand out lines earlier."""
    header = picture.header
    interlaced = number(header, "interlaced", 0) or number(header, "jpeg-multiscan", 0)
    return picture.format in _WHOLE_CODERS or (
        picture.format in ("jpeg", "png") and bool(interlaced)
    )


def _recognise(source: Path) -> Format:
    try:
        with source.open("rb") as file:
            head = file.read(64 * 1024)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if not head:
        raise Unreadable("empty file")
    for signature, format in _SIGNATURES.items():
        if head.startswith(signature):
            if format == "png" and b"acTL" in head:
                # libvips reads the first frame only: the others would be lost without a word.
                raise Unreadable("format animated PNG is not supported")
            return format
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(int.from_bytes(head[:4]), 256)]
        if b"avif" in brands:
            return "avif"
        if any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")):
            raise Unreadable("format HEIC is not supported")
    for signature, unsupported in _UNSUPPORTED.items():
        if head.startswith(signature):
            raise Unreadable(f"format {unsupported} is not supported")
    if b"<svg" in head[:1024]:
        raise Unreadable("format SVG is not supported")
    raise Unreadable("not an image")


def _is_complete_gif(source: Path) -> bool:
    """Whether the blocks reach the trailer: libvips takes the frames it finds and asks no more."""

    def skip_table(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 * 2 ** ((flags & 7) + 1), 1)

    with source.open("rb") as file:
        skip_table((file.read(13) + bytes(13))[10])
        while (kind := file.read(1)) in (b"!", b","):
            if kind == b"!":
                file.seek(1, 1)
            else:
                skip_table((file.read(9) + bytes(9))[8])
                file.seek(1, 1)
            while (length := file.read(1)) not in (b"", b"\x00"):
                file.seek(length[0], 1)
    return kind == b";"
