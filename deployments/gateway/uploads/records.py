"""Names and records of the files of users, and what may be wrong with them."""

import unicodedata
from dataclasses import dataclass

from tasks.errors import InvalidPayload, PrefectureError

USERS = "users"
"""The folder of all users, under the inputs root or in S3."""
PARTS = ".uploads"
"""The folder of what is being uploaded, in that of its user."""
_LONGEST_NAME = 255  # bytes, of most file systems
_LONGEST_PATH = 1024
# Controls, line breaks and what turns the direction of a text; but neither the spaces that cameras
# and phones put into names, nor characters that are newer than this Python.
_REFUSED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # in words of Persian, and in emoji


class UploadExists(PrefectureError):
    """There is a file of that name. Delete it first, or ask to overwrite it."""

    @classmethod
    def of(cls, path: str) -> "UploadExists":
        """The error for a path."""
        return cls(f"there is a file {path!r}: delete it, or add overwrite=true")


class UploadBusy(PrefectureError):
    """Another request uploads the same file. Wait for it, or end it."""


class QuotaExceeded(PrefectureError):
    """There is no space for the file. Delete others, or ask the operator for more."""


class NotSent(PrefectureError):
    """S3 is away: files have arrived, and are kept here. Finish their uploads later."""

    def __init__(self, sent: int, files: int) -> None:
        super().__init__(
            f"S3 is away: {sent:,} of {files:,} files are there, and the others are kept for a "
            "week: finish each with a PUT of no byte whose Upload-Offset is what HEAD answers, or "
            "send those again that GET /v1/inputs does not list"
        )


class WrongOffset(PrefectureError):
    """The upload is at another place. Continue it there."""

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(f"{offset:,} bytes of {path!r} have arrived: continue there")
        self.offset = offset


@dataclass(frozen=True)
class Uploaded:
    """A file of a user."""

    path: str
    """Relative to the user's folder."""
    source: str
    """What a payload names."""
    bytes: int
    modified: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Staged:
    """A whole file that has not got its name yet."""

    path: str
    """The path that it gets, relative to its user's folder."""
    folder: int
    """The descriptor of the folder that it is in."""
    name: str
    """Its name there."""


def split(path: str) -> list[str]:
    """The parts of a path. Raises InvalidPayload where it is none of a file of a user."""
    parts = path.split("/")
    if len(path.encode(errors="surrogatepass")) > _LONGEST_PATH:
        raise InvalidPayload(f"path: it is longer than {_LONGEST_PATH} bytes")
    for part in parts:
        if not part or part.startswith(".") or not all(map(_is_fine, part)):
            raise InvalidPayload(
                f"path: {part[:80]!r} is no name of a file or folder: it may not be empty, begin "
                "with '.', or have unprintable characters"
            )
        if len(part.encode()) > _LONGEST_NAME:
            raise InvalidPayload(f"path: {part[:80]!r}… is longer than {_LONGEST_NAME} bytes")
    return parts


def _is_fine(character: str) -> bool:
    """Whether a name may have a character. Bytes that are not UTF-8 arrive as replacements, and two
    names would be one."""
    if character == "\N{REPLACEMENT CHARACTER}":
        return False
    return character in _JOINERS or unicodedata.category(character) not in _REFUSED


def mixed_up(path: str) -> InvalidPayload:
    """The error for a file whose path has a file among its folders, or is a folder."""
    return InvalidPayload(
        f"path: {path!r} has a folder where there is a file, or the other way round: choose "
        "another name, or delete what is there"
    )
