"""Parts of a job that helper runs make: files in the stage of the job's attempt, removed with it.

A helper works in its own stage and puts each finished file here atomically: a file that is here is
complete. The same name may be put twice; either file is valid.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.contracts import S3Address
from tasks.errors import StageDiscarded
from tasks.storage.results import local_files
from tasks.storage.results.s3_result import keys, reading, transfer_config, writing

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

FOLDER = "parts"
_OPEN = "open"
"""In S3, which has no empty folders: the marker key that says that parts are wanted."""


class Parts(Protocol):
    """The parts of one attempt. Every method may raise the errors of its results root."""

    def open(self) -> None:
        """Declare that parts are wanted. Only the attempt itself calls this."""
        ...

    def names(self) -> set[str]:
        """Names of the parts so far. Raises StageDiscarded where no part is wanted any more."""
        ...

    def put(self, name: str, file: Path) -> None:
        """Move a finished file here. Raises StageDiscarded where no part is wanted any more."""
        ...

    def get(self, name: str, scratch: Path) -> AbstractContextManager[Path]:
        """Give a part as a file on this host; from S3, a copy in `scratch`."""
        ...

    def clear(self) -> None:
        """Remove all parts; no further part is wanted."""
        ...


@dataclass(frozen=True)
class LocalParts:
    """Parts in a folder of the stage."""

    folder: Path

    def open(self) -> None:
        """Make the folder."""
        with local_files.writing(self.folder):
            self.folder.mkdir(exist_ok=True)

    def names(self) -> set[str]:
        """Names of the files in the folder."""
        try:
            return {path.name for path in self.folder.iterdir()}
        except FileNotFoundError as error:
            raise _over(self.folder) from error

    def put(self, name: str, file: Path) -> None:
        """Rename the file, which must be under the same root."""
        with local_files.writing(self.folder):
            local_files.flush(file)
            try:
                os.replace(file, self.folder / name)  # noqa: PTH105  # Path.replace hides which is missing
            except FileNotFoundError as error:
                raise _over(self.folder) from error

    @contextmanager
    def get(self, name: str, scratch: Path) -> Generator[Path]:
        """Give the path of the file itself."""
        yield self.folder / name

    def clear(self) -> None:
        """Remove the folder, even while a late helper puts a part into it."""
        with local_files.writing(self.folder):
            local_files.take_out(self.folder, self.folder.name)


@dataclass(frozen=True)
class S3Parts:
    """Parts under a prefix beside the attempt's files, removed with them."""

    connect: "Callable[[], S3Client]"
    place: S3Address

    def open(self) -> None:
        """Write the marker key."""
        with writing(str(self.place)):
            self.connect().put_object(Bucket=self.place.bucket, Key=self.place.key(_OPEN), Body=b"")

    def names(self) -> set[str]:
        """Names of the keys under the prefix, without the marker."""
        with reading(str(self.place)):
            found = {key.rpartition("/")[2] for key in self._keys()}
        if _OPEN not in found:
            raise _over(self.place)
        return found - {_OPEN}

    def put(self, name: str, file: Path) -> None:
        """Upload the file as a stream."""
        self.names()
        with writing(str(self.place)):
            self.connect().upload_file(
                str(file), self.place.bucket, self.place.key(name), Config=transfer_config()
            )
        file.unlink()

    @contextmanager
    def get(self, name: str, scratch: Path) -> Generator[Path]:
        """Give a copy, removed afterwards."""
        copy = scratch / name
        try:
            with reading(f"{self.place}/{name}"):
                self.connect().download_file(
                    self.place.bucket, self.place.key(name), str(copy), Config=transfer_config()
                )
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the keys, the marker first."""
        with writing(str(self.place)):
            for key in sorted(self._keys(), key=lambda key: not key.endswith(f"/{_OPEN}")):
                self.connect().delete_object(Bucket=self.place.bucket, Key=key)

    def _keys(self) -> Iterator[str]:
        return keys(self.connect(), self.place.bucket, self.place.key(""))


def _over(place: object) -> StageDiscarded:
    return StageDiscarded(f"{place}: no part is wanted there any more: the attempt has ended")
