"""Where one attempt works whose result will stand in S3; see tasks.storage.results.s3."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from tasks.contracts import Manifest, PublishedFile, S3Address
from tasks.errors import StageDiscarded, StorageUnavailable
from tasks.storage.results import local_files
from tasks.storage.results.parts import FOLDER, S3Parts
from tasks.storage.results.s3_result import (
    AT_ONCE,
    S3Result,
    read_manifest,
    transfer_config,
    writing,
)
from tasks.storage.s3_errors import is_transient, s3_errors, status

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

STORED = "stored-under"
"""In an attempt's folder: the key of its job's result, where the attempt may have files."""
_PUBLISHING = "publishing"  # beside it: a manifest was sent, and how that ended is not known
_ON_ITS_WAY = 60.0  # seconds after which S3 does not do any more what it was asked
_TAKEN = (409, 412)  # to a conditional write: another is under way, or was first
_NO_CONDITIONS = 501  # to a conditional write, of stores that know none


@dataclass
class S3Stage:
    """Where one attempt works, and where in S3 its files go."""

    connect: "Callable[[], S3Client]"
    place: S3Address
    """Of the job's result."""
    folder: Path
    """On this host."""
    name: str
    """Of the attempt's folder beside the manifest."""
    published: bool = False
    at_work: Lock = field(default_factory=Lock)
    """Held by the thread that stores or publishes, which outlives an attempt that is cancelled."""
    _stored: dict[str, PublishedFile] = field(default_factory=dict[str, PublishedFile])

    @property
    def files(self) -> Path:
        """What is published in the end."""
        return self.folder / "files"

    @property
    def scratch(self) -> Path:
        """What is not."""
        return self.folder / "scratch"

    @property
    def parts(self) -> S3Parts:
        """Under a key of the attempt's own."""
        return S3Parts(self.connect, parts_of(self.place, self.name))

    def store(self) -> list[PublishedFile]:
        """Upload the files, a few at a time, each as a stream."""
        paths = sorted(path for path in self.files.rglob("*") if path.is_file())
        if self.files / local_files.MANIFEST in paths:
            raise local_files.name_taken()
        with self.at_work:
            stored = self.folder / STORED
            if not stored.exists():
                with local_files.writing(self.folder):
                    stored.write_text(self.place.prefix)
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload") as threads:
                return list(threads.map(self._upload, paths))

    def set_aside(self, folder: Path) -> str:
        """Upload the files of a folder beside the result's place."""
        place = S3Address(self.place.bucket, f"{self.place.prefix}{local_files.FAILED}")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            with writing(str(place)):
                self.connect().upload_file(
                    str(path), place.bucket, place.key(name), Config=transfer_config()
                )
        return f"{place}/"

    def publish(self, manifest: Manifest) -> S3Result:
        """Write the manifest, unless one stands."""
        with self.at_work:
            if not self.folder.exists():  # given up by another, and so are its keys
                raise StageDiscarded(f"what {self.folder.name} had staged was removed")
            client = self.connect()
            standing = read_manifest(client, self.place)
            if standing is None:
                self._write(client, manifest.model_copy(update={"folder": self.name}))
                standing = read_manifest(client, self.place)
            if standing is None:
                raise StorageUnavailable(
                    f"{self.place}/{local_files.MANIFEST} is not to be seen yet: try again later"
                )
            self.published = standing.folder == self.name
            return S3Result(client, self.place, standing)

    def _write(self, client: "S3Client", manifest: Manifest) -> None:
        publishing = self.folder / _PUBLISHING
        with local_files.writing(self.folder):
            publishing.touch()
        put = partial(
            client.put_object,
            Bucket=self.place.bucket,
            Key=self.place.key(local_files.MANIFEST),
            Body=manifest.model_dump_json(indent=2).encode() + b"\n",
            ContentType="application/json",
        )
        with writing(str(self.place)):
            try:
                try:
                    put(IfNoneMatch="*")
                except s3_errors() as error:
                    if status(error) != _NO_CONDITIONS:
                        raise
                    put()
            except s3_errors() as error:
                if is_transient(error):
                    raise  # whatever is heard of it, it may be done yet
                publishing.unlink(missing_ok=True)
                if status(error) not in _TAKEN:
                    raise
            else:
                publishing.unlink(missing_ok=True)

    def _upload(self, path: Path) -> PublishedFile:
        name = path.relative_to(self.files).as_posix()
        if name not in self._stored:
            with local_files.writing(self.folder), writing(str(self.place)):
                file = PublishedFile(
                    path=name, bytes=path.stat().st_size, sha256=local_files.sha256(path)
                )
                self.connect().upload_file(
                    str(path),
                    self.place.bucket,
                    self.place.key(self.name, name),
                    Config=transfer_config(),
                )
            self._stored[name] = file
        return self._stored[name]


def parts_of(place: S3Address, name: str) -> S3Address:
    """Where the parts of an attempt are, by the name of its folder beside the manifest."""
    return S3Address(place.bucket, place.key(name, f".{FOLDER}"))


def is_on_its_way(folder: Path) -> bool:
    """Whether an attempt's manifest may appear yet, though it was not told so."""
    try:
        since = (folder / _PUBLISHING).stat().st_mtime
    except FileNotFoundError:
        return False
    return time.time() - since < _ON_ITS_WAY
