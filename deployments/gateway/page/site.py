"""Serves the page and that of the API: a document each, and the scripts and styles of both.

Their address has a hash of all of them, so that a browser keeps them, and never mixes those of two
versions. The policy lets the page run our scripts alone, and make no markup from text.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

ASSETS = "/assets/"
"""Begins the paths of scripts and styles."""
VIEWS = ("/", "/sign-in", "/new", "/new/{task}", "/jobs/{job}", "/files", "/schedules", "/overview")
"""The paths of the document, whose script shows the view of its path."""
DOCS = "/docs"
"""The path of the page of the API, which anybody may read: it has no data of users."""
_STATIC = Path(__file__).parent / "static"
_PAGE, _API = "index.html", "docs.html"
_SCRIPT_OF_API = "docs.js"
_NOT_FOUND = 404
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_SAFE = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FOR_EVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _Site:
    """What is sent to browsers, read once."""

    documents: Mapping[str, bytes]
    """By name."""
    version: str
    """A hash of all files."""
    assets: Mapping[str, tuple[bytes, bytes]]
    """Each file by name: as it is, and compressed."""


@cache
def _site() -> _Site:
    found = {each.name: each.read_bytes() for each in _STATIC.iterdir()}
    whole = hashlib.sha256()
    for name in sorted(found):
        whole.update(name.encode() + found[name])
    version = whole.hexdigest()[:16]
    documents = {name: found.pop(name) for name in (_PAGE, _API)}
    place = f"{ASSETS}{version}"
    # So that a browser fetches all at once, and not each after the one that imports it.
    scripts = "\n".join(
        f'<link rel="modulepreload" href="{place}/{name}">'
        for name in sorted(found)
        if name.endswith(".js") and name != _SCRIPT_OF_API
    )
    parts = {b"{{assets}}": place.encode(), b"{{scripts}}": scripts.encode()}
    return _Site(
        {name: _with(parts, text) for name, text in documents.items()},
        version,
        {name: (content, gzip.compress(content, mtime=0)) for name, content in found.items()},
    )


def _with(parts: Mapping[bytes, bytes], text: bytes) -> bytes:
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


async def _page() -> Response:
    return _document(_PAGE)


async def _api() -> Response:
    return _document(_API)


def _document(name: str) -> Response:
    headers = _SAFE | {"Cache-Control": "no-cache"}
    return Response(_site().documents[name], headers=headers, media_type="text/html; charset=utf-8")


for _path in VIEWS:
    router.add_api_route(_path, _page, methods=["GET"])
router.add_api_route(DOCS, _api, methods=["GET"])


@router.get(f"{ASSETS}{{version}}/{{name}}")
async def asset(request: Request, version: str, name: str) -> Response:
    """A script or a style. That of another version than asked for is not kept by the browser."""
    site = _site()
    content = site.assets.get(name)
    kind = _TYPES.get(name.rpartition(".")[2])
    if content is None or kind is None:
        raise HTTPException(_NOT_FOUND, "there is no such file")
    kept = _FOR_EVER if version == site.version else "no-store"
    headers = _SAFE | {"Cache-Control": kept, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(content[1], headers=headers | {"Content-Encoding": "gzip"}, media_type=kind)
    return Response(content[0], headers=headers, media_type=kind)
