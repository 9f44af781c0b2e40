"""The sources of a payload that are files or folders of this machine."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.errors import FileUnreadable, InvalidPayload, SourceNotFound
from tasks.storage.inputs.local import find_local, is_glob, split_glob
from tasks.storage.results.local_files import sha256

FOLDER = "uploaded"
"""The folder of a user's inputs that commands upload to."""
_OF_USERS = "users/"  # begins the sources of what was uploaded
_HERE = ("/", "./", "../", "~")  # begins what can only be a path of this machine
_DIGITS = 16  # of a digest in a name, 64 bits
_LONGEST_LABEL = 60


@dataclass(frozen=True)
class Upload:
    """One file to upload."""

    place: Path
    """On this machine."""
    path: str
    """Below the user's inputs."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class LocalSource:
    """Files of this machine that a payload names."""

    root: Path
    """The folder that `pattern` is relative to."""
    pattern: str
    """A name, or a glob."""
    is_folder: bool
    """Whether it is all of a folder: `root`."""

    def uploads(self) -> "tuple[str, list[Upload]]":
        """The source below the user's inputs, and the files to upload. Reads each file.

        Their folder is named after their names and content: what is uploaded never changes, not
        for a job that waits either, and is uploaded once. Raises SourceNotFound.
        """
        try:
            found = find_local(self.pattern, self.root)
        except SourceNotFound as error:
            reason = "it has no file that is not hidden: name another one"
            if isinstance(error, FileUnreadable):
                said = str(error).removeprefix(f"source '{self.pattern}': ")
                reason = said.replace("the inputs root", "that folder")
            raise SourceNotFound(f"source '{self.shown}': {reason}") from error
        known = [(each, each.path.stat().st_size, sha256(each.path)) for each in found]
        text = json.dumps([(each.name, size, digest) for each, size, digest in known])
        label = re.sub(r"[^\w.-]+", "-", self.root.name).strip(".-")[:_LONGEST_LABEL] or "files"
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        folder = f"{FOLDER}/{label}-{digest}"
        uploads = [
            Upload(each.path, f"{folder}/{each.name}", size, digest) for each, size, digest in known
        ]
        return folder if self.is_folder else f"{folder}/{self.pattern}", uploads

    @property
    def shown(self) -> str:
        """What it is, for messages."""
        return str(self.root if self.is_folder else self.root / self.pattern)


def local_source(text: str, folder: Path) -> LocalSource | None:
    """The files of this machine that a source names; None where it is a name of the server.

    `folder`: what it is relative to. A source that exists here is one of this machine. Raises
    InvalidPayload for one that can only be a path here and names nothing.
    """
    if "://" in text or text.startswith(_OF_USERS) or "\0" in text or not text:
        return None
    path = folder / Path(text).expanduser()
    if path.is_dir():
        return LocalSource(path.resolve(), "**", is_folder=True)
    if path.is_file():
        return LocalSource(path.resolve().parent, path.resolve().name, is_folder=False)
    if is_glob(text):
        fixed, pattern = split_glob(PurePosixPath(path).as_posix())
        root = Path(fixed or "/")
        if root.is_dir() and any(root.glob(pattern)):
            return LocalSource(root.resolve(), pattern, is_folder=False)
    if text.startswith(_HERE):
        raise InvalidPayload(
            f"source '{text[:200]}' names no file or folder of this machine: correct it, or name "
            "one under the inputs root of the server, without a / or . in front"
        )
    return None
