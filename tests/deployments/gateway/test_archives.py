"""Archives that are unpacked as they arrive: whole or not at all, and never anywhere else."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deployments.gateway.archives.receive import AT_ONCE, BrokenOff, receive
from deployments.gateway.archives.tar import DIGEST
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.uploads.records import QuotaExceeded, UploadExists
from tasks.errors import InvalidPayload, PrefectureError
from tests.deployments.gateway.archived import body, packed
from tests.deployments.gateway.kept import on_disk

MOST = 64 * 2**20  # bytes of a user
LARGE = os.urandom(AT_ONCE + 100_000)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return on_disk(tmp_path).uploads(MOST)


async def unpack(
    uploads: Uploads,
    archive: bytes,
    path: str = "folder",
    *,
    is_gzip: bool = False,
    sha256: str | None = None,
    overwrite: bool = False,
    breaks: bool = False,
    step: int = 1000,
) -> int:
    """Unpack an archive that arrives in steps. Returns how many files it had."""

    arriving = body(archive, step, is_gzip=is_gzip, breaks=breaks)
    return (await receive(uploads, "anna", path, arriving, sha256, overwrite=overwrite)).files


def files(folder: Path) -> dict[str, bytes]:
    place = folder / "users" / "anna"
    found = {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }
    return dict(sorted(found.items()))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [1, 700_000])
async def test_an_archive_is_a_folder(
    uploads: Uploads, tmp_path: Path, form: int, step: int
) -> None:
    long = f"{'d' * 120}/{'é' * 40}.csv"
    given = {"./a.csv": b"1\n", "b/c.bin": LARGE, "b/empty": b"", long: b"x" * 512}
    if step == 1:
        del given["b/c.bin"]
    archive = packed(*given.items(), form=form)
    assert await unpack(uploads, archive, step=step) == len(given)
    expected = {f"folder/{name.removeprefix('./')}": data for name, data in given.items()}
    assert files(tmp_path) == dict(sorted(expected.items()))
    for path in expected:
        assert (tmp_path / "users" / "anna" / path).stat().st_mode & 0o777 == 0o644


async def test_what_tar_makes_of_a_folder(uploads: Uploads, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "a").write_bytes(LARGE)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.add(source, ".")
    compressed = gzip.compress(whole.getvalue())
    digest = hashlib.sha256(compressed).hexdigest()
    assert await unpack(uploads, compressed, is_gzip=True, sha256=digest) == 1
    assert files(tmp_path) == {"folder/deep/er/a": LARGE}


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("../../bob/a", {}, "is no name of a file"),
        ("/etc/passwd", {}, "is no name of a file"),
        ("a/../../b", {}, "is no name of a file"),
        ("a\nb", {}, "is no name of a file"),
        (".uploads/x", {}, "is no name of a file"),
        ("x" * 4000, {}, "longer than 1024 bytes"),
        ("\udcff", {}, "is no name of a file"),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "is a symbolic link"),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "fine"}, "is a hard link"),
        ("device", {"type": tarfile.BLKTYPE}, "is a device"),
        ("pipe", {"type": tarfile.FIFOTYPE}, "is a named pipe"),
        ("sparse", {"pax_headers": {"GNU.sparse.major": "1"}}, "is a sparse file"),
        ("damaged", {"pax_headers": {DIGEST: "0" * 64}}, "is not the file of its SHA-256"),
        ("fine", {}, "is in the archive twice"),
        ("fine/below", {}, "is a file and a folder"),
        ("long", {"pax_headers": {"comment": "x" * 70_000}}, "names are too long"),
    ],
)
async def test_nothing_is_kept_of_a_bad_archive(
    uploads: Uploads, tmp_path: Path, name: str, kind: dict[str, Any], said: str
) -> None:
    archive = packed(("large", LARGE), ("fine", b"1"), (name, b"2"), **kind)
    with pytest.raises(InvalidPayload, match=said) as refused:
        await unpack(uploads, archive)
    assert str(refused.value).isprintable()
    assert files(tmp_path) == {}
    assert list((tmp_path / "users/anna/.uploads").iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "users"]


@pytest.mark.parametrize(
    ("archive", "is_gzip"),
    [
        (b"", False),
        (b"no archive" * 100, False),
        (packed(("a", LARGE))[:-20_000], False),
        (packed(("a", b"1"))[:700], False),
        (packed(("a", b"1")) + b"more", False),
        (gzip.compress(packed(("a", b"1"))), False),
        (packed(("a", b"1")), True),
        (gzip.compress(packed(("a", LARGE)))[:-5000], True),
        (gzip.compress(packed(("a", b"1"))) + b"more", True),
    ],
    ids=range(9),
)
async def test_what_is_no_archive(
    uploads: Uploads, tmp_path: Path, archive: bytes, *, is_gzip: bool
) -> None:
    with pytest.raises(InvalidPayload, match="archive"):
        await unpack(uploads, archive, is_gzip=is_gzip)
    assert files(tmp_path) == {}


async def test_the_digest_of_the_whole_is_compared(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(InvalidPayload, match="Repr-Digest"):
        await unpack(uploads, packed(("a", b"1")), sha256="0" * 64)
    assert files(tmp_path) == {}


async def test_an_archive_counts(tmp_path: Path) -> None:
    uploads = on_disk(tmp_path).uploads(1_500_000)
    zeros = gzip.compress(packed(("a", LARGE[:100]), ("bomb", bytes(8 * 2**20))))
    assert len(zeros) < 100_000
    many = packed(*((f"{number}", bytes(10_000)) for number in range(200)))
    for archive, is_gzip in ((zeros, True), (many, False)):
        with pytest.raises(QuotaExceeded, match="over the limit"):
            await unpack(uploads, archive, is_gzip=is_gzip)
        assert files(tmp_path) == {}
    assert await unpack(uploads, packed(("a", LARGE))) == 1, "nothing is reserved any more"


async def test_files_that_are_there(uploads: Uploads, tmp_path: Path) -> None:
    assert await unpack(uploads, packed(("a", b"1"), ("b/c", b"2"))) == 2
    with pytest.raises(UploadExists, match="overwrite=true"):
        await unpack(uploads, packed(("x", b"3"), ("a", b"4")))
    for name in ("b", "a/b"):
        with pytest.raises(PrefectureError):
            await unpack(uploads, packed((name, b"5")), overwrite=True)
    assert files(tmp_path) == {"folder/a": b"1", "folder/b/c": b"2"}
    assert await unpack(uploads, packed(("x", b"3"), ("a", b"4")), overwrite=True) == 2
    assert files(tmp_path) == {"folder/a": b"4", "folder/b/c": b"2", "folder/x": b"3"}


async def test_of_an_archive_that_breaks_off_the_whole_files_stay(
    uploads: Uploads, tmp_path: Path
) -> None:
    archive = packed(("a", b"1"), ("b", LARGE), ("c", LARGE))
    with pytest.raises(BrokenOff):
        await unpack(uploads, archive[:-50_000], breaks=True)
    assert files(tmp_path) == {"folder/a": b"1", "folder/b": LARGE}
