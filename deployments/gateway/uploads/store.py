"""Where whole files of users are: under the inputs root, or in S3."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from deployments.gateway.uploads.records import Staged, Uploaded

Check = Callable[[str], None]
"""Raises UploadExists or InvalidPayload where a file of that path cannot be put."""


class Store(Protocol):
    """The files of all users. Every method blocks.

    Where the files are in S3, each may raise StorageUnavailable, and OperatorError where the
    settings are wrong. Paths that are none raise InvalidPayload.
    """

    def source(self, user: str, path: str) -> str:
        """What a payload names for a file or folder of a user."""
        ...

    def find(self, user: str, path: str) -> Uploaded | None:
        """A file of a user; None where there is none."""
        ...

    def check(self, user: str, path: str, *, overwrite: bool) -> None:
        """Check that a file can be put. Raises UploadExists, and InvalidPayload."""
        ...

    def check_in(self, user: str, folder: str, *, overwrite: bool) -> Check:
        """As `check`, for many files below a folder: what is there is read once, where that is
        faster."""
        ...

    def put(self, user: str, files: Sequence[Staged], *, overwrite: bool) -> list[Uploaded]:
        """Give staged files of a user their names, each at once and whole.

        Raises UploadExists, and InvalidPayload where a folder of a path is a file.
        """
        ...

    def listed(self, user: str, under: str = "") -> Iterator[Uploaded]:
        """The files of a user, sorted by path: all, or the file `under`, or those in that
        folder."""
        ...

    def delete(self, user: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it. Raises SourceNotFound."""
        ...

    def users(self) -> list[str]:
        """The users who have files, sorted."""
        ...

    def used(self, user: str) -> int:
        """The bytes of a user's whole files; it may be some seconds old."""
        ...

    def remove_empty(self, user: str, before: float) -> None:
        """Remove the folders of a user that have been empty since a time, in seconds since
        1970."""
        ...

    def remove_unfinished(self, before: float) -> None:
        """Remove what is left of files that a gateway began to put before that time, and did not
        finish."""
        ...

    def has_of_others(self, user: str, source: str) -> bool:
        """Whether a source may name files of another user, in whatever spelling."""
        ...

    def is_missing(self, source: str) -> bool:
        """Whether a source names files in the folder of a user, and none of them is there."""
        ...

    def probe(self) -> None:
        """Try to list and to write. Raises an error with one line."""
        ...
