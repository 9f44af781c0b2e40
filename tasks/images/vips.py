"""A small typed interface to libvips: recognises, opens, decodes and encodes picture files.

libvips' error text is never shown or examined: a process has one error buffer, so with threads a
message may belong to another file. Errors are distinguished by the call that failed.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import pyvips

from tasks.images import foreign, tiff
from tasks.images.beside import beside
from tasks.images.heic import open_heic
from tasks.images.signatures import Format, Unreadable, recognise

# Input files are not trusted: only the loaders that libvips' authors fuzz are enabled.
pyvips.block_untrusted_set(True)
# The operation cache would keep files and pixels of finished pictures.
pyvips.cache_set_max(0)

VipsError = pyvips.Error

# A picture up to this size, in decoded bytes, is decoded once and encoded from memory (32 MP of
# 8 bit RGB); a larger one is streamed from its file at every encoding.
DECODED_IN_MEMORY = 96 * 2**20
# Coders that cannot stream (see `_is_whole`) need several times the decoded bytes.
DECODED_BY_WHOLE_CODER = 256 * 2**20
# Encoded bytes kept in memory; more goes to an unnamed file beside the target.
ENCODED_IN_MEMORY = 16 * 2**20

# These coders decode and encode one frame after another.
_FRAME_CODERS = ("webp", "gif")
_LARGEST_SIDE: dict[Format, int] = {"jpeg": 65500, "webp": 16383, "avif": 16384, "gif": 65535}
_WHOLE_CODERS = {"webp", "avif", "gif", "heic"}
_ITEM_BYTES = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "double": 8, "complex": 8}
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


@dataclass(frozen=True)
class Picture:
    """A picture file: its format and header by content, and its pixels where they are in memory."""

    source: Path
    format: Format
    header: pyvips.Image
    pages: int
    """Number of pages that are processed."""
    pixels: pyvips.Image | None = None
    pages_in_file: int = 1
    beside: tuple[str, ...] = ()
    """Content of the file beside its pages, which a new file will lack."""
    metadata_unread: str | None = None
    """Metadata of the file that libvips does not read, in words."""
    writable: bool = True
    """Whether the picture can be written in its own format."""
    edit: Callable[[pyvips.Image], pyvips.Image] | None = None
    """An edit still to be applied to the file's pixels."""

    @property
    def decoded_bytes(self) -> int:
        """Size of all pages in memory, uncompressed."""
        return decoded_bytes(self.header)

    def image(self) -> pyvips.Image:
        """The pixels for one pass from top to bottom, from memory or streamed from the file."""
        if self.pixels is not None:
            return self.pixels
        if self.edit is None:
            return load(self.source, self.format, self.pages)
        # Pages are split to be edited, so their lines are not read in order.
        access = "random" if self.pages > 1 else "sequential"
        return self.edit(load(self.source, self.format, self.pages, access))

    def decode(self) -> "Picture":
        """Decode a picture to memory where it is small enough. Raises Unreadable where damaged."""
        if self.pixels is not None or self.decoded_bytes > DECODED_IN_MEMORY:
            return self
        try:
            return replace(self, pixels=self.image().copy_memory())
        except VipsError:
            raise damaged(self.format) from None

    def edited(self, edit: Callable[[pyvips.Image], pyvips.Image]) -> "Picture":
        """Apply `edit` to the pixels, now or when read. Raises Unreadable where damaged."""
        try:
            if self.pixels is not None:
                pixels = edit(self.pixels).copy_memory()
                return replace(self, header=pixels, pixels=pixels)
            return replace(self, header=edit(self.header), edit=edit)
        except VipsError:
            raise damaged(self.format) from None

    def verify(self) -> None:
        """Read every pixel, in bounded memory. Raises Unreadable where damaged."""
        if self.pixels is None:
            try:
                self.image().avg()
            except VipsError:
                raise damaged(self.format) from None

    def explain(self, written: Format) -> Unreadable:
        """The reason why encoding failed: a damaged file, or pixels the format cannot hold."""
        try:
            self.verify()
        except Unreadable as fault:
            return fault
        return Unreadable(f"{written.upper()} cannot hold this picture's pixels")


def open_picture(source: Path, all_pages: bool = True) -> Picture:
    """Recognise `source` by its content and read its header. Raises Unreadable."""
    format = recognise(source)
    extra = beside(source, format)
    if format == "heic":
        return _in_memory(source, format, open_heic(source, DECODED_BY_WHOLE_CODER), extra)
    directories = tiff.read_directories(source) if format == "tiff" else []
    if directories:
        tiff.check(directories)
        extra += tiff.beside(directories)
        if pixels := foreign.open_tiff(source, directories[0], DECODED_BY_WHOLE_CODER):
            pages = len(directories)
            return replace(_in_memory(source, format, pixels, extra), pages_in_file=pages)
    try:
        header = load(source, format)
    except VipsError:
        unsupported = directories[0].explanation() if directories else None
        if unsupported:
            raise Unreadable(f"TIFF with {unsupported} is not supported") from None
        raise damaged(format) from None
    in_file = max(number(header, "n-pages", 1), len(directories))
    if len(directories) > 1 and all(each.is_reduced for each in directories[1:]):
        # A pyramid, or a scanner's thumbnail: smaller copies of the first page.
        extra += [f"a smaller copy of {each.size}" for each in directories[1:]]
        in_file = 1
    pages = in_file if all_pages and format != "avif" else 1
    if format == "gif" and not _is_complete_gif(source):
        raise damaged(format)
    if pages > 1:
        try:
            header = load(source, format, pages)
        except VipsError:
            raise _uneven(source, format, directories) from None
    unread = "EXIF metadata" if tiff.has_exif(directories) else None
    picture = Picture(
        source,
        format,
        header,
        pages,
        pages_in_file=in_file,
        beside=tuple(extra),
        metadata_unread=unread,
    )
    held = picture.decoded_bytes // (pages if format in _FRAME_CODERS else 1)
    if held > DECODED_BY_WHOLE_CODER and _is_whole(picture):
        raise too_large(picture, format)
    return picture


def _in_memory(source: Path, format: Format, pixels: pyvips.Image, extra: list[str]) -> Picture:
    """Make a Picture from pixels that another library has decoded."""
    return Picture(
        source,
        format,
        pixels,
        pages=1,
        pixels=pixels,
        pages_in_file=number(pixels, "n-pages", 1),
        beside=tuple(extra),
        metadata_unread="EXIF metadata" if number(pixels, "exif-left-out", 0) else None,
        writable=False,
    )


def load(source: Path, format: Format, pages: int = 1, access: str = "sequential") -> pyvips.Image:
    """Open the image in `source` without reading pixels. Raises pyvips.Error, Unreadable."""
    options: dict[str, Any] = {"access": access, "fail_on": "error"}
    if format in ("webp", "tiff", "gif"):
        options["n"] = pages
    # By descriptor: a name would be searched for options ("a[page=2].tif") and must be UTF-8.
    with opened(source) as file:
        return _LOADERS[format](pyvips.Source.new_from_descriptor(file.fileno()), **options)


def opened(source: Path) -> IO[bytes]:
    """Open a picture's file for reading. Raises Unreadable."""
    try:
        return source.open("rb")
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None


def read(file: IO[bytes], size: int) -> bytes:
    """Read up to `size` bytes of a picture's file. Raises Unreadable, for a failing disk too."""
    try:
        return file.read(size)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None


def encode(
    image: pyvips.Image, format: Format, options: Mapping[str, object], beside: Path
) -> IO[bytes]:
    """Encode to a temporary file: in memory or, where large, unnamed in the folder of `beside`.

    Raises OSError where it cannot be written, pyvips.Error for every other failure.
    """
    file = tempfile.SpooledTemporaryFile(ENCODED_IN_MEMORY, dir=str(beside.parent))  # noqa: SIM115 - the caller closes it
    failures: list[OSError] = []

    def guard(action: Callable[[], int]) -> int:
        # An exception must not reach libvips' C code, where it would be printed and lost.
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
    if failures:  # some savers do not check the result of their last write
        file.close()
        raise failures[0]
    return file


def decoded_bytes(image: pyvips.Image) -> int:
    """Size of an uncompressed image in memory, in bytes."""
    item = _ITEM_BYTES.get(str(image.format), 4)
    return image.width * image.height * image.bands * item


def metadata(image: pyvips.Image, field: str) -> object:
    """The value of a metadata field; None where the field is not set."""
    return image.get(field) if image.get_typeof(field) else None


def lowest(image: pyvips.Image) -> float:
    """The minimum of all samples. Reads every pixel."""
    return cast("float", image.min())


def highest(image: pyvips.Image) -> float:
    """The maximum of all samples. Reads every pixel."""
    return cast("float", image.max())


def set_blob(image: pyvips.Image, field: str, value: bytes) -> None:
    """Set a binary metadata field, in place: the image must not be shared."""
    image.set_type(pyvips.GValue.blob_type, field, cast("Any", value))


def number(image: pyvips.Image, field: str, default: int) -> int:
    """An integer metadata field; `default` where it is not set."""
    value = metadata(image, field)
    return value if isinstance(value, int) else default


def text(image: pyvips.Image, field: str) -> str:
    """A textual metadata field; empty where it is not set."""
    value = metadata(image, field)
    return value if isinstance(value, str) else ""


def check_size(first: Picture, format: Format) -> None:
    """Raise Unreadable where `format`, or memory, cannot hold the first page of a picture."""
    largest = _LARGEST_SIDE.get(format)
    if largest is not None and max(first.header.width, first.header.height) > largest:
        raise Unreadable(f"{format.upper()} holds at most {largest} pixels a side")
    if format in _WHOLE_CODERS and first.decoded_bytes > DECODED_BY_WHOLE_CODER:
        raise too_large(first, format)


def too_large(picture: Picture, format: Format) -> Unreadable:
    """The error for a picture that its coder must hold in memory, and that is too large for it."""
    kind = format.upper() if format in _WHOLE_CODERS else f"interlaced {format.upper()}"
    width, height = picture.header.width, picture.header.height
    return Unreadable(f"{width} x {height} pixels are too many for {kind}")


def damaged(format: Format) -> Unreadable:
    """The error for a file with the right signature whose content is damaged."""
    return Unreadable(f"truncated or damaged {format.upper()}")


def _uneven(source: Path, format: Format, directories: Sequence[tiff.Directory]) -> Unreadable:
    """The error for pages that cannot be read together: damaged, truncated or unlike."""
    try:
        load(source, format).avg()
    except VipsError:
        return damaged(format)
    if unlike := tiff.difference(directories):
        cure = "write each page to a file of its own"
        return Unreadable(f"TIFF with unlike pages ({unlike}): {cure}")
    return Unreadable(f"{format.upper()} pages are truncated, or of different sizes")


def _is_whole(picture: Picture) -> bool:
    """Whether decoding holds the whole picture in memory, because the coder cannot stream."""
    header = picture.header
    interlaced = number(header, "interlaced", 0) or number(header, "jpeg-multiscan", 0)
    return picture.format in _WHOLE_CODERS or (
        picture.format in ("jpeg", "png") and bool(interlaced)
    )


def _is_complete_gif(source: Path) -> bool:
    """Whether a GIF's blocks reach its trailer; libvips accepts files with missing frames."""

    def skip_table(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 * 2 ** ((flags & 7) + 1), 1)

    with opened(source) as file:
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
