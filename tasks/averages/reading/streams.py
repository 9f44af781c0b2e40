"""Opens text files as seekable streams of UTF-8, decompressed and transcoded where needed."""

import codecs
import io
import lzma
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from tasks.errors import UnreadableInput

_PIECE = 2**20
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_NO_TEXT = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet: save it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"PAR1": "Parquet: name it with the suffix .parquet",
    b"\x93NUMPY": "npy: name it with the suffix .npy",
    b"ARROW1": "Arrow: write it as Parquet",
}
# The longer mark first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}

Stream = io.FileIO | io.RawIOBase


@dataclass(frozen=True)
class Text:
    """An open text file, at its beginning."""

    stream: Stream
    """Seekable; for a compressed or transcoded file, seeking back rereads it from the beginning."""
    mark: int
    """Size of the byte-order mark at the beginning of the stream, in bytes."""
    compression: str | None
    encoding: str


@contextmanager
def open_text(path: Path, name: str) -> Generator[Text]:
    """Open a text file. Raises UnreadableInput where the file is not text."""
    with path.open("rb", buffering=0) as file:
        start = file.read(16)
        compression = _begins(start, _COMPRESSIONS)
        if compression:
            with _decompressed(path, compression, name) as stream:
                start = _read_up_to(stream, 16)
            if again := _begins(start, _COMPRESSIONS):
                raise UnreadableInput(
                    f"{name} is compressed twice, by {again} and {compression}: decompress it once"
                )
        if what := _begins(start, _NO_TEXT):
            raise UnreadableInput(f"{name} is no text but {what}")
        encoding = _begins(start, _MARKS) or _unmarked(start)
        if not compression and encoding == "utf-8":
            mark = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
            file.seek(0)
            yield Text(file, mark, None, encoding)
            return
    with _Decoded(path, name, compression, encoding) as stream:
        mark = len(codecs.BOM_UTF8) if _read_up_to(stream, 3) == codecs.BOM_UTF8 else 0
        stream.seek(0)
        yield Text(stream, mark, compression, encoding)


def _begins(start: bytes, known: dict[bytes, str]) -> str | None:
    return next((what for magic, what in known.items() if start.startswith(magic)), None)


def _unmarked(start: bytes) -> str:
    """Detect UTF-16 without a byte-order mark, by the zero byte in each digit and line end."""
    if len(start) >= 4 and not start[1] and not start[3] and start[0] and start[2]:
        return "utf-16-le"
    if len(start) >= 4 and not start[0] and not start[2] and start[1] and start[3]:
        return "utf-16-be"
    return "utf-8"


def _read_up_to(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    return data


def _decompressed(path: Path, compression: str | None, name: str) -> "_Decoded":
    return _Decoded(path, name, compression, "utf-8")


def _open(path: Path, compression: str | None) -> IO[bytes]:
    if compression is None:
        return path.open("rb")
    if compression == "xz":
        return cast(IO[bytes], _Xz(path))
    arrow = cast(Any, pa)
    return arrow.CompressedInputStream(arrow.OSFile(str(path)), compression)


class _Xz(io.RawIOBase):
    """An xz file: its streams one behind the other, with or without padding between them.

    lzma.open takes whatever follows a stream, and is none itself, for the end: without an error.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes; none at the end. Raises LZMAError, EOFError."""
        text = b""
        while not text:
            if self._decoder.eof:
                data = self._decoder.unused_data.lstrip(b"\0")
                while not data:
                    if not (data := self._file.read(_PIECE)):
                        return b""
                    data = data.lstrip(b"\0")
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            else:
                data = self._file.read(_PIECE) if self._decoder.needs_input else b""
                if not data and self._decoder.needs_input:
                    raise EOFError("it ends within a stream")
            text = self._decoder.decompress(data, size)
        return text

    def close(self) -> None:
        self._file.close()
        super().close()


class _Decoded(io.RawIOBase):
    """A file's text in UTF-8. Seeking back decodes it again from the beginning."""

    def __init__(self, path: Path, name: str, compression: str | None, encoding: str) -> None:
        self._path = path
        self._name = name
        self._compression = compression
        self._encoding = encoding
        self._pieces = self._make()
        self._rest = memoryview(b"")
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, counted from the beginning."""
        assert whence == io.SEEK_SET
        if offset < self._at:
            self._pieces.close()
            self._pieces, self._rest, self._at = self._make(), memoryview(b""), 0
        while self._at < offset and self._fill():
            count = min(len(self._rest), offset - self._at)
            self._rest, self._at = self._rest[count:], self._at + count
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        if not len(target) or not self._fill():
            return 0
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest, self._at = self._rest[count:], self._at + count
        return count

    def close(self) -> None:
        if not self.closed:
            self._pieces.close()
        super().close()

    def _fill(self) -> bool:
        while not len(self._rest):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._rest = memoryview(piece)
        return True

    def _make(self) -> Generator[bytes]:
        try:
            with _open(self._path, self._compression) as file:
                if self._encoding == "utf-8":
                    while piece := file.read(_PIECE):
                        yield piece
                else:
                    yield from _transcoded(file.read, self._encoding)
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowException, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            kind = self._encoding if isinstance(error, UnicodeDecodeError) else self._compression
            lines = str(error).strip().splitlines()
            raise UnreadableInput(
                f"{self._name} is not readable as {kind}: "
                f"{lines[0] if lines else type(error).__name__}: "
                "it is cut off, or damaged; write it again"
            ) from error


def _transcoded(read: Callable[[int], bytes], encoding: str) -> Generator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    begun = False
    while piece := read(_PIECE):
        text = decoder.decode(piece)
        if not begun and text:
            text, begun = text.removeprefix("\ufeff"), True
        yield text.encode()
    yield decoder.decode(b"", final=True).encode()
