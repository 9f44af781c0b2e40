"""Archives of files, and how they arrive."""

import io
import tarfile
from collections.abc import AsyncGenerator, Callable
from typing import Any

from deployments.gateway.archives.receive import BrokenOff, Bytes


def packed(*files: tuple[str, bytes], form: int = tarfile.PAX_FORMAT, **kind: Any) -> bytes:
    """An archive of files. `kind`: attributes of the last of them."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=form) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if (name, content) == files[-1]:
                for attribute, value in kind.items():
                    setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def body(
    archive: bytes,
    step: int = 2**20,
    *,
    is_gzip: bool = False,
    breaks: bool = False,
    at_the_end: Callable[[], None] = lambda: None,
) -> Bytes:
    """An archive that arrives in steps, and may break off at its end."""

    async def parts() -> AsyncGenerator[bytes]:
        for start in range(0, len(archive), step):
            yield archive[start : start + step]
        at_the_end()
        if breaks:
            raise BrokenOff

    return Bytes(parts(), is_gzip=is_gzip)
