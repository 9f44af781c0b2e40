"""Results through a gateway: a folder that is whole, and as its manifest says, or not there.

The files go to a folder beside it first, which the same command continues with after an
interruption: `.<name>.<job>.part`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from deployments.client.gateway.requests import Refused, Requests
from deployments.client.gateway.transfers import CHUNK, Patience, broken_off, each
from deployments.client.interface import FoundResult
from tasks.contracts import Manifest, PublishedFile
from tasks.storage.results import local_files

_PARTIAL, _REDIRECT, _NO_RANGE = 206, 307, 416


class GatewayResult(FoundResult):
    """A result behind a gateway."""

    def __init__(self, requests: Requests, manifest: Manifest) -> None:
        self._requests = requests
        self._manifest = manifest
        self._path = f"/jobs/{manifest.job}/result"

    @property
    def manifest(self) -> Manifest:
        """The manifest of the result."""
        return self._manifest

    @property
    def location(self) -> str:
        """Its address, which needs the token."""
        return f"{self._requests.url}/v1{self._path}"

    @property
    def links(self) -> Sequence[str]:
        """None: each file needs the token."""
        return ()

    async def check(self) -> bool:
        """Nothing: that would be to download it."""
        return False

    async def copy(self, to: Path) -> None:
        """Download the files, compare them, and put them in place."""
        if any(file.path == local_files.MANIFEST for file in self._manifest.files):
            raise local_files.name_taken()
        target = Path(os.path.abspath(to))  # noqa: PTH100  # not through links: it may be one
        try:
            local_files.check_target(target)
            part = target.with_name(f".{target.name}.{self._manifest.job}.part")
            part.mkdir(parents=True, exist_ok=True)
            await each(self._manifest.files, lambda file: self._fetch(file, part / file.path))
            await asyncio.to_thread(self._put_in_place, part, target)
        except OSError as error:
            raise local_files.uncopied(self.location, to, error) from error

    async def _fetch(self, file: PublishedFile, place: Path) -> None:
        """Download a file, from where an earlier call has come to. Raises CorruptResult."""
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        patience = Patience()
        for is_last in (False, True):
            if place.stat().st_size > file.bytes:
                os.truncate(place, 0)
            while place.stat().st_size < file.bytes:
                await self._continue(file, place, patience)
            if await asyncio.to_thread(local_files.sha256, place) == file.sha256:
                return
            # What an earlier call has left may be damaged; what is fetched anew may not.
            if not is_last:
                os.truncate(place, 0)
        raise local_files.damaged(f"{self.location}/{file.path}")

    async def _continue(self, file: PublishedFile, place: Path, patience: Patience) -> None:
        """Download what is missing of a file, until the connection breaks."""
        there = place.stat().st_size
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
        try:
            async with self._opened(f"{self._path}/{quote(file.path)}", headers) as response:
                with place.open("ab" if response.status_code == _PARTIAL else "wb") as opened:
                    async for some in response.aiter_raw(CHUNK):
                        await asyncio.to_thread(opened.write, some)
                        patience.renew()
                        if opened.tell() > file.bytes:
                            break
            if place.stat().st_size != file.bytes:  # the gateway has sent all that it has
                raise local_files.damaged(f"{self.location}/{file.path}")
        except httpx.HTTPError as error:
            if not await patience.rest():
                raise broken_off(
                    f"the download of {file.path}", self._requests.url, error
                ) from error
        except Refused as refused:
            if refused.status == _NO_RANGE:
                os.truncate(place, 0)
            elif not refused.is_passing or await refused.is_over(patience):
                raise refused.error() from None

    @asynccontextmanager
    async def _opened(self, path: str, headers: dict[str, str]) -> AsyncGenerator[httpx.Response]:
        """The response with a file's bytes: of the gateway, or of the store that it names."""
        try:
            async with self._requests.stream(path, headers=headers) as response:
                yield response
                return
        except Refused as refused:
            if refused.status != _REDIRECT:
                raise
            address = refused.headers["Location"]
        # Another client: the token is for the gateway alone.
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("GET", address, headers=headers) as response,
        ):
            if not response.is_success:
                raise Refused(response)
            yield response

    def _put_in_place(self, part: Path, target: Path) -> None:
        """Give the whole folder its name. Blocks."""
        manifest = self._manifest.model_copy(update={"folder": ""})
        (part / local_files.MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        if not target.exists():
            part.rename(target)
            return
        # An empty folder keeps its place: a shell may be in it. The manifest comes last.
        for path in sorted(part.iterdir(), key=lambda path: path.name == local_files.MANIFEST):
            path.rename(target / path.name)
        part.rmdir()
