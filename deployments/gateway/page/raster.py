"""Answers with pictures, for a page to show: raster pictures of users, and nothing else.

They are never documents of our origin: the first bytes must be those of a raster format, of which
the browser is told, and it may not guess another.
"""

from itertools import chain
from pathlib import Path

from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tasks.errors import StorageUnavailable
from tasks.storage.s3_errors import s3_errors, text
from tasks.storage.s3_reads import OpenObject

_HEAD = 32  # bytes in which every signature stands
_SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "inline",
    "Cache-Control": "private, max-age=600",
}


class _Streamed(StreamingResponse):
    """An object in S3, which is closed whatever happens."""

    def __init__(self, opened: OpenObject, head: bytes, kind: str) -> None:
        headers = _SAFE | {"Content-Length": str(opened.size)}
        super().__init__(chain([head], opened.rest()), headers=headers, media_type=kind)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._opened.close()


def is_shown(name: str) -> bool:
    """Whether a file of that name is one that a browser shows as a picture."""
    return Path(name).suffix.lower() in _SUFFIXES


def shown(opened: Path | OpenObject) -> Response | None:
    """An answer with a file on this disk or in S3; None where it is no raster picture. Blocking.

    Raises StorageUnavailable.
    """
    if isinstance(opened, Path):
        with opened.open("rb") as file:
            kind = _kind(file.read(_HEAD))
        return FileResponse(opened, headers=_SAFE, media_type=kind) if kind else None
    try:
        head = opened.read(_HEAD)
    except s3_errors() as error:
        raise StorageUnavailable(f"a picture cannot be read for now: {text(error)}") from error
    kind = _kind(head)
    if kind is None:
        opened.close()
        return None
    return _Streamed(opened, head, kind)


def _kind(head: bytes) -> str | None:
    """The media type of a raster picture, by its first bytes; None where it is none."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "image/avif"
    for signature, kind in (
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF8", "image/gif"),
        (b"BM", "image/bmp"),
    ):
        if head.startswith(signature):
            return kind
    return None
