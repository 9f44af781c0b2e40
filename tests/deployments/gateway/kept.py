"""The files of users in a store, on the disk or in S3, as tests look at them."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from deployments.gateway.uploads.disk import DiskStore
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.uploads.s3 import S3Store
from deployments.gateway.uploads.store import Store
from tasks.contracts import S3Address
from tests.support.storage import client_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "uploads"


@dataclass(frozen=True)
class Kept:
    """A store, and a look past it."""

    inputs: Path
    """The inputs root, where uploads arrive."""
    store: Store
    client: "S3Client | None" = None
    prefix: str = ""
    """Of the keys in S3."""

    def uploads(self, most: int = 64 * 2**20, least_free: int = 0) -> Uploads:
        """Uploads to the store."""
        return Uploads(self.store, self.inputs, most, least_free)

    def files(self) -> dict[str, bytes]:
        """What has a name, by that: `anna/a.csv`."""
        if self.client is None:
            found = content_of(self.inputs / "users")
        else:
            top = f"{self.prefix}/users/"
            found = {key.removeprefix(top): self.read(key) for key in self.keys()}
        return {name: data for name, data in found.items() if "/.uploads/" not in name}

    def keys(self) -> list[str]:
        """The objects in S3."""
        assert self.client is not None
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return [item.get("Key", "") for item in listed.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        assert self.client is not None
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def arriving(self) -> dict[str, bytes]:
        """What is on the disk of the gateway and has no name yet."""
        found = content_of(self.inputs)
        return {name: data for name, data in found.items() if "/.uploads/" in name}


def content_of(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def on_disk(inputs: Path) -> Kept:
    """Files under an inputs root."""
    return Kept(inputs, DiskStore(inputs))


@contextmanager
def in_s3(inputs: Path, server: str, past: str | None = None) -> Generator[Kept]:
    """Files below a new prefix of a bucket. `past`: the server, where `server` is before it."""
    through, client = client_of(server, tries=2, read_timeout=5), client_of(past or server)
    prefix = f"team/{token_hex(4)}"
    store = S3Store(S3Address(BUCKET, prefix), lambda: through, pauses=(0.01,))
    try:
        yield Kept(inputs, store, client, prefix)
    finally:
        through.close()
        client.close()


def upload(
    uploads: Uploads, path: str, content: bytes, user: str = "anna", *, overwrite: bool = False
) -> str:
    """Upload a file whole. Returns what a payload names."""
    with uploads.receive(user, path, 0, len(content), overwrite=overwrite) as part:
        part.write(content)
        return uploads.publish(user, path, part, overwrite=overwrite).source
