"""Results in S3: a removed one loses its manifest first, and its files when no link is good.

<prefix>/.expired/<job id>.json      the record of a removed result
<prefix>/.expiring/<job id>.json     the same, until the files are deleted too
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import ValidationError

from tasks.contracts import S3Address
from tasks.errors import CorruptResult
from tasks.storage.results import local_files
from tasks.storage.results.s3_result import (
    LINK,
    ObjectGone,
    dated_keys,
    keys,
    read_manifest,
    reading,
    writing,
)
from tasks.storage.retention.records import REMOVED, KeptResult, RemovedResult

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_EXPIRING = ".expiring"
_MANIFEST = f"/{local_files.MANIFEST}"
_REMEMBERED = timedelta(days=365)


class S3Retention:
    """The results under a prefix. It remembers the manifests that it has read."""

    def __init__(
        self, address: S3Address, connect: "Callable[[], S3Client]", linked: float = LINK
    ) -> None:
        """`linked`: seconds for which a link to a file may be good."""
        self._address = address
        self._connect = connect
        self._linked = timedelta(seconds=linked)
        self._connected: S3Client | None = None
        self._known: dict[str, tuple[datetime, KeptResult]] = {}

    @property
    def _client(self) -> "S3Client":
        if self._connected is None:
            self._connected = self._connect()
        return self._connected

    def results(self) -> Iterator[KeptResult]:
        """List every key of the root, and read the manifests that are new."""
        known, self._known = self._known, {}
        base = self._address.key("")
        with reading(str(self._address)):
            listed = dated_keys(self._client, self._address.bucket, base)
            found = [(key, at) for key, at in listed if f"/{key}".endswith(_MANIFEST)]
        for key, at in found:
            place = key.removesuffix(local_files.MANIFEST).rstrip("/")
            if key in known and known[key][0] == at:
                result = known[key][1]
            else:
                try:
                    manifest = read_manifest(self._client, S3Address(self._address.bucket, place))
                except CorruptResult:
                    continue  # left alone
                if manifest is None or place.rpartition("/")[2] != str(manifest.job):
                    continue
                result = KeptResult.of(place.removeprefix(base), manifest)
            self._known[key] = (at, result)
            yield result

    def remove(self, result: KeptResult, reason: str) -> bool:
        """Write the records, delete the manifest."""
        body = result.removed(reason).model_dump_json().encode()
        with writing(str(self._address)):
            for folder in (_EXPIRING, REMOVED):
                self._client.put_object(
                    Bucket=self._address.bucket, Key=self._key(folder, result.job), Body=body
                )
            self._client.delete_object(
                Bucket=self._address.bucket,
                Key=self._address.key(result.place, local_files.MANIFEST),
            )
        return True

    def removed(self, job: UUID) -> RemovedResult | None:
        """Read the record of a removed result."""
        return self._record(self._key(REMOVED, job))

    def finish(self) -> None:
        """Delete the files of results that were removed longer ago than a link is good, and old
        records."""
        now, bucket = datetime.now(UTC), self._address.bucket
        for key, at in self._dated(_EXPIRING):
            record = self._record(key)
            if at > now - self._linked or record is None:
                continue
            place = S3Address(bucket, self._address.key(record.place))
            with writing(str(place)):
                # Published anew meanwhile: then nothing of it is deleted.
                if read_manifest(self._client, place) is None:
                    for each in list(keys(self._client, bucket, place.key(""))):
                        self._client.delete_object(Bucket=bucket, Key=each)
                self._client.delete_object(Bucket=bucket, Key=key)
        for key, at in self._dated(REMOVED):
            if at < now - _REMEMBERED:
                with writing(str(self._address)):
                    self._client.delete_object(Bucket=bucket, Key=key)

    def _dated(self, folder: str) -> list[tuple[str, datetime]]:
        with reading(str(self._address)):
            return [*dated_keys(self._client, self._address.bucket, self._address.key(folder, ""))]

    def _record(self, key: str) -> RemovedResult | None:
        try:
            with reading(str(self._address)):
                body = self._client.get_object(Bucket=self._address.bucket, Key=key)["Body"]
                return RemovedResult.model_validate_json(body.read())
        except (ObjectGone, ValidationError):
            return None

    def _key(self, folder: str, job: UUID) -> str:
        return self._address.key(folder, f"{job}.json")
