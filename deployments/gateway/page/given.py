"""The pictures that a job was given: under the inputs root, or those that its user has uploaded to
S3."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, cast

from prefect.client.schemas.objects import FlowRun

from deployments.gateway.uploads.s3 import S3Store
from deployments.gateway.uploads.store import Store
from tasks.contracts import USER_TAG
from tasks.errors import InvalidPayload, OperatorError, StorageUnavailable
from tasks.storage.inputs.local import is_glob, split_glob
from tasks.storage.s3_reads import OpenObject

_MOST_LISTED = 10_000  # uploads in S3


class Given:
    """The files of a job's source, by their names there. Its methods block."""

    def __init__(self, run: FlowRun, inputs: Path, store: Store) -> None:
        payload: Any = run.parameters.get("payload")
        source: Any = cast("dict[str, Any]", payload).get("source") if payload else None
        self._source = source if isinstance(source, str) else ""
        self._inputs = inputs
        self._uploads: tuple[S3Store, str, str] | None = None
        """The store, and the user and the path there."""
        if isinstance(store, S3Store):
            owners = [tag.removeprefix(USER_TAG) for tag in run.tags if tag.startswith(USER_TAG)]
            for user in owners:
                path = store.own_path(user, self._source)
                if path is not None:
                    self._uploads = store, user, path

    def there(self, names: Collection[str]) -> set[str]:
        """Those of the names whose files are there. While S3 does not answer, none is."""
        if self._uploads is None:
            return {name for name in names if self._place(name) is not None}
        store, user, path = self._uploads
        folder = _folder(path)
        try:
            listed = {file.path for file in islice(store.listed(user, folder), _MOST_LISTED)}
        except (StorageUnavailable, OperatorError):
            return set()
        return {name for name in names if not listed.isdisjoint(_paths(path, name))}

    def open(self, name: str) -> Path | OpenObject | None:
        """A file; None where it is not there any more. Raises as the store does."""
        if self._uploads is None:
            return self._place(name)
        store, user, path = self._uploads
        for each in _paths(path, name):
            with suppress(InvalidPayload):
                if (found := store.open(user, each)) is not None:
                    return found
        return None

    def _place(self, name: str) -> Path | None:
        """A file under the inputs root."""
        source = self._source
        if not source or "://" in source or ".." in source.split("/"):
            return None
        start = self._inputs / source
        if start.is_file():
            return inside(self._inputs, source) if start.name == name else None
        folder = source if start.is_dir() else _folder(source)
        return inside(self._inputs, f"{folder}/{name}")


def inside(root: Path, path: str) -> Path | None:
    """A file below a folder; None where it is gone, or a link leads out of the folder."""
    folder = root.resolve()
    place = (folder / path).resolve()
    return place if place.is_relative_to(folder) and place.is_file() else None


def _folder(path: str) -> str:
    """What is literal of a path that may be a glob."""
    return split_glob(path)[0] if is_glob(path) else path


def _paths(path: str, name: str) -> Iterator[str]:
    """Where a file may be that has this name in a source: what is literal comes before a glob."""
    if path.rpartition("/")[2] == name:
        yield path
    for folder in dict.fromkeys((path, _folder(path))):
        yield f"{folder}/{name}" if folder else name
