"""Types of the inputs root, the results root and the other folders in the settings."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from tasks.contracts.names import S3_SCHEME, S3Address

_NO_ROOT = frozenset(
    Path(p) for p in ("/", "/bin", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
)


def _check_root(path: Path) -> Path:
    if path == Path():
        raise ValueError("an empty path cannot be a root: name a folder of its own")
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  # `..` must not hide a root
    # A root is mounted into each container at its own path; these paths would break it.
    if {path, path.resolve()} & _NO_ROOT or str(path) == "//":
        raise ValueError(f"{path} cannot be a root: name a folder of its own")
    if any(c in str(path) for c in ":{}\n"):
        raise ValueError(
            f"{str(path)!r} holds one of ':', '{{', '}}' or a newline: choose another path"
        )
    return path


def _parse_place(value: object) -> object:
    if isinstance(value, str) and value.startswith(S3_SCHEME):
        return S3Address.parse(value)
    return value


def _parse_in_s3(value: object) -> object:
    return S3Address.parse(value) if isinstance(value, str) else value


Root = Annotated[Path, AfterValidator(_check_root)]
"""An absolute path of a folder on this host that can be mounted at the same path."""
Place = Annotated[S3Address | Root, BeforeValidator(_parse_place)]
"""A Root, or a prefix in S3."""
PlaceInS3 = Annotated[S3Address, BeforeValidator(_parse_in_s3)]
"""A prefix in S3."""
