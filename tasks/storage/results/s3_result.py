"""Reads results in S3, and checks every byte against its sha256 as it is streamed."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tasks.contracts import Manifest, PublishedFile, S3Address
from tasks.errors import PrefectureError, ResultsUnwritable, StorageUnavailable
from tasks.storage.results import local_files
from tasks.storage.s3_errors import error_code, is_transient, reason, s3_errors, status, text
from tasks.storage.s3_reads import OpenObject, open_object

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig
    from mypy_boto3_s3.client import S3Client

LINK = 3600
"""Seconds that a link to a file is good for."""
AT_ONCE = 4  # files transferred at a time
_CHUNK = 2**20  # bytes
_PART = 16 * 2**20  # bytes
_PARTS_AT_ONCE = 2  # of each file: all together within the client's ten connections
_NOT_FOUND = 404
_MEND = (
    "correct PREFECTURE_RESULTS_ROOT, or the block and the rights of the key that "
    "PREFECTURE_S3_CREDENTIALS names"
)


@dataclass(frozen=True)
class S3Result:
    """A published result in S3."""

    client: "S3Client"
    place: S3Address
    """The address of the manifest's parent; the files are below it, in the manifest's `folder`."""
    manifest: Manifest

    @property
    def location(self) -> str:
        """The s3:// address that the keys of the manifest and the files begin with."""
        return f"{self.place}/"

    def __str__(self) -> str:
        return self.location

    def address(self, file: PublishedFile) -> str:
        """The https address of a file: a link without its signature."""
        return self._link(file).partition("?")[0]

    def links(self) -> list[str]:
        """A presigned link to each file, made without a request."""
        return [self._link(file) for file in self.manifest.files]

    def reading(self) -> AbstractContextManager[None]:
        """Nothing is to be done: files stay for as long as a link is good."""
        return nullcontext()

    def open(self, file: PublishedFile) -> OpenObject:
        """Open a file. Raises CorruptResult where it is gone."""
        with self._reading(file):
            return open_object(self.client, self.place.bucket, self._key(file))

    def verify(self) -> None:
        """Read every file, 1 MiB at a time, and compare its size and sha256 with the manifest."""
        self._each(self._check)

    def copy(self, target: Path) -> None:
        """Download every file, then check the copies. The manifest is written last."""
        try:
            local_files.prepare_target(target)
            self._each(partial(self._download, target))
            local_files.verify(target, self.manifest)
            manifest = self.manifest.model_copy(update={"folder": ""})
            (target / local_files.MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise local_files.uncopied(self.location, target, error) from error

    def _each(self, work: Callable[[PublishedFile], None]) -> None:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="results") as threads:
            for _ in threads.map(work, self.manifest.files):
                pass

    def _check(self, file: PublishedFile) -> None:
        with self._reading(file):
            body = self.client.get_object(Bucket=self.place.bucket, Key=self._key(file))["Body"]
            digest, count = hashlib.sha256(), 0
            for chunk in body.iter_chunks(_CHUNK):
                digest.update(chunk)
                count += len(chunk)
        if (count, digest.hexdigest()) != (file.bytes, file.sha256):
            raise local_files.damaged(self._named(file))

    def _download(self, target: Path, file: PublishedFile) -> None:
        to = target / file.path
        to.parent.mkdir(parents=True, exist_ok=True)
        with self._reading(file):
            self.client.download_file(
                self.place.bucket, self._key(file), str(to), Config=transfer_config()
            )

    @contextmanager
    def _reading(self, file: PublishedFile) -> Generator[None]:
        try:
            with reading(self._named(file)):
                yield
        except ObjectGone as error:
            raise local_files.damaged(self._named(file)) from error

    def _key(self, file: PublishedFile) -> str:
        return self.place.key(self.manifest.folder, file.path)

    def _named(self, file: PublishedFile) -> str:
        return f"{self.place}/{self.manifest.folder}/{file.path}"

    def _link(self, file: PublishedFile) -> str:
        return self.client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.place.bucket, "Key": self._key(file)},
            ExpiresIn=LINK,
        )


class ObjectGone(PrefectureError):
    """The object does not exist, but its bucket does."""


def transfer_config() -> "TransferConfig":
    """Transfer settings that bound memory: some 32 MiB for a file of any size."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=_PART,
        multipart_chunksize=_PART,
        max_concurrency=_PARTS_AT_ONCE,
        num_download_attempts=1,
    )


def read_manifest(client: "S3Client", place: S3Address) -> Manifest | None:
    """The manifest of a job's result; None where none is published. Raises CorruptResult."""
    address = f"{place}/{local_files.MANIFEST}"
    try:
        with reading(address):
            body = client.get_object(Bucket=place.bucket, Key=place.key(local_files.MANIFEST))[
                "Body"
            ]
            return Manifest.model_validate_json(body.read())
    except ObjectGone:
        return None
    except ValidationError as error:
        raise local_files.unreadable(address) from error


def keys(client: "S3Client", bucket: str, prefix: str) -> Iterator[str]:
    """Iterate over the keys with a prefix, page by page."""
    return (key for key, _ in dated_keys(client, bucket, prefix))


def dated_keys(client: "S3Client", bucket: str, prefix: str) -> Iterator[tuple[str, datetime]]:
    """As `keys`, with the time when each was written."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for item in page.get("Contents", []):
            yield item.get("Key", ""), item.get("LastModified", datetime.now(UTC))


@contextmanager
def reading(address: str) -> Generator[None]:
    """Turn errors of reading from S3 into one line; ObjectGone where the object is missing."""
    try:
        yield
    except s3_errors() as error:
        if is_transient(error):
            raise _away(address, error) from error
        if status(error) == _NOT_FOUND and error_code(error) != "NoSuchBucket":
            raise ObjectGone(f"{address} is not there: check the address") from error
        raise PrefectureError(f"{address} cannot be read: {reason(error)}: {_MEND}") from error


@contextmanager
def writing(address: str) -> Generator[None]:
    """Turn errors of writing to S3 into one line."""
    try:
        yield
    except s3_errors() as error:
        if is_transient(error):
            raise _away(address, error) from error
        raise ResultsUnwritable(
            f"results cannot be written to {address}: {reason(error)}: {_MEND}"
        ) from error


def _away(address: str, error: Exception) -> StorageUnavailable:
    return StorageUnavailable(
        f"{address} cannot be reached for now: {text(error)}: try again later"
    )
