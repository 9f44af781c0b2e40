"""What an attempt is handed by others that help it: files kept with its stage, gone with it.

Whoever makes a part works in a stage of its own, and hands the finished file over in one step: a
name that is there is whole. The same name may be handed over twice; either file is as good.
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
"""Of S3, where no folder can stand empty: the name that says that parts are wanted."""


class Parts(Protocol):
    """The parts of one attempt. Every method may raise what its results root does."""

    def open(self) -> None:
        """Say that parts are wanted. Only the attempt itself does so."""
        ...

    def names(self) -> set[str]:
        """What was handed over. Raises StageDiscarded where nothing is wanted any more."""
        ...

    def put(self, name: str, file: Path) -> None:
        """Hand a file over; it is moved. Raises StageDiscarded as `names`."""
        ...

    def get(self, name: str, scratch: Path) -> AbstractContextManager[Path]:
        """A part as a file on this host; a copy in `scratch` where it has to be one."""
        ...

    def clear(self) -> None:
        """Remove them all: nothing is wanted any more."""
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
        """The files there."""
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
        """The file itself."""
        yield self.folder / name

    def clear(self) -> None:
        """Remove the folder, even while a helper that is late puts a part into it."""
        with local_files.writing(self.folder):
            local_files.take_out(self.folder, self.folder.parent)


@dataclass(frozen=True)
class S3Parts:
    """Parts under a prefix beside the attempt's files, which is removed with them."""

    connect: "Callable[[], S3Client]"
    place: S3Address

    def open(self) -> None:
        """Write a mark."""
        with writing(str(self.place)):
            self.connect().put_object(Bucket=self.place.bucket, Key=self.place.key(_OPEN), Body=b"")

    def names(self) -> set[str]:
        """The keys there, without the mark."""
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
        """A copy, removed afterwards."""
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
        """Delete the keys, the mark first."""
        with writing(str(self.place)):
            for key in sorted(self._keys(), key=lambda key: not key.endswith(f"/{_OPEN}")):
                self.connect().delete_object(Bucket=self.place.bucket, Key=key)

    def _keys(self) -> Iterator[str]:
        return keys(self.connect(), self.place.bucket, self.place.key(""))


def _over(place: object) -> StageDiscarded:
    return StageDiscarded(f"{place}: no part is wanted there any more: the attempt is over")
