"""The stage of one attempt that publishes to S3; see tasks.storage.results.s3."""

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
from tasks.storage.s3_writes import TAKEN, write_if_new

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

STORED = "stored-under"
"""File in an attempt's folder with the key of its job's result; the attempt may have keys there."""
_PUBLISHING = "publishing"  # file beside it: a manifest was sent, and the outcome is not known
_MAY_ARRIVE = 60.0  # seconds in which S3 may still carry out a write that got no answer


@dataclass
class S3Stage:
    """The folders of one attempt on this host, and the place of its files in S3."""

    connect: "Callable[[], S3Client]"
    place: S3Address
    """The address of the job's result."""
    folder: Path
    """The stage's folder on this host."""
    name: str
    """The name of the attempt's prefix beside the manifest."""
    published: bool = False
    at_work: Lock = field(default_factory=Lock)
    """Held by the thread that stores or publishes; it outlives a cancelled attempt."""
    _stored: dict[str, PublishedFile] = field(default_factory=dict[str, PublishedFile])

    @property
    def files(self) -> Path:
        """The folder of the files to publish."""
        return self.folder / "files"

    @property
    def scratch(self) -> Path:
        """The folder of temporary files, never published."""
        return self.folder / "scratch"

    @property
    def parts(self) -> S3Parts:
        """Parts under a key of this attempt."""
        return S3Parts(self.connect, parts_of(self.place, self.name))

    def store(self) -> list[PublishedFile]:
        """Upload the files, four at a time, each as a stream."""
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
        """Upload the files of a folder to `<job id>.failed`, beside the result's place."""
        place = S3Address(self.place.bucket, f"{self.place.prefix}{local_files.FAILED}")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            with writing(str(place)):
                self.connect().upload_file(
                    str(path), place.bucket, place.key(name), Config=transfer_config()
                )
        return f"{place}/"

    def publish(self, manifest: Manifest) -> S3Result:
        """Write the manifest, unless the job has one."""
        with self.at_work:
            if not self.folder.exists():  # the supervisor gave this attempt up and removed its keys
                raise StageDiscarded(f"the stage {self.folder.name} was removed")
            client = self.connect()
            standing = read_manifest(client, self.place)
            if standing is None:
                self._write(client, manifest.model_copy(update={"folder": self.name}))
                standing = read_manifest(client, self.place)
            if standing is None:
                raise StorageUnavailable(
                    f"{self.place}/{local_files.MANIFEST} is not visible yet: try again later"
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
                write_if_new(put)
            except s3_errors() as error:
                if is_transient(error):
                    raise  # S3 may still carry the write out
                publishing.unlink(missing_ok=True)
                if status(error) not in TAKEN:
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
    """The address of an attempt's parts; `name` is its prefix beside the manifest."""
    return S3Address(place.bucket, place.key(name, f".{FOLDER}"))


def manifest_may_arrive(folder: Path) -> bool:
    """Whether an attempt's manifest may still appear, though S3 did not confirm the write."""
    try:
        since = (folder / _PUBLISHING).stat().st_mtime
    except FileNotFoundError:
        return False
    return time.time() - since < _MAY_ARRIVE
