"""A source in another job's result names what its manifest lists, on a disk and in S3."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.contracts import JobSource, Manifest, S3Address
from tasks.errors import SourceNotFound
from tasks.storage.inputs.local import select
from tasks.storage.inputs.results import find_in_result
from tasks.storage.inputs.s3 import download_once
from tasks.storage.results.interface import ResultsRoot
from tasks.storage.results.local import LocalRoot
from tasks.storage.results.s3 import S3Root
from tests.support.storage import moto_server
from tests.tasks.s3 import BUCKET, client_of

FILES = {"a.csv": b"1\n", "more/b.csv": b"2\n", "more/deep/c.txt": b"3"}
JOB = UUID("44f00000-0000-4000-8000-000000000001")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with moto_server() as address:
        client_of(address).create_bucket(Bucket=BUCKET)
        yield address


def in_a_folder(folder: Path, _: str) -> ResultsRoot:
    return LocalRoot(folder)


def in_s3(folder: Path, address: str) -> ResultsRoot:
    root = S3Address(BUCKET, folder.name)
    return S3Root(root, folder, lambda: client_of(address))


def publish(root: ResultsRoot, directory: str) -> None:
    with root.open_stage(directory, JOB, JOB) as stage:
        for name, content in FILES.items():
            (stage.files / name).parent.mkdir(parents=True, exist_ok=True)
            (stage.files / name).write_bytes(content)
        now = datetime.now(UTC)
        stage.publish(
            Manifest(
                job=JOB,
                task="find-primes",
                attempt=1,
                flow_run=JOB,
                parameters={},
                submitted=now,
                started=now,
                published=now,
                summary={},
                files=stage.store(),
            )
        )


@pytest.mark.parametrize("root_in", [in_a_folder, in_s3])
def test_files_of_a_result(
    root_in: Callable[[Path, str], ResultsRoot], tmp_path: Path, address: str
) -> None:
    root = root_in(tmp_path, address)
    publish(root, "of/mine")
    for source, names in (
        (f"job://of/mine/{JOB}/", ["a.csv", "more/b.csv", "more/deep/c.txt"]),
        (f"job://{JOB}/more", ["b.csv", "deep/c.txt"]),
        (f"job://of/mine/{JOB}/**/*.csv", ["a.csv", "more/b.csv"]),
        (f"job://of/mine/{JOB}/more/b.csv", ["b.csv"]),
    ):
        wanted = JobSource.parse(source)
        assert wanted is not None
        found = find_in_result(source, wanted, root, download_once)
        assert [file.name for file in found] == names

        async def read() -> bytes:
            async with found[-1].local(tmp_path) as path:  # noqa: B023  # awaited here
                return path.read_bytes()

        path = next(path for path in FILES if path.endswith(names[-1]))
        assert asyncio.run(read()) == FILES[path]
    for source, named in (
        (f"job://of/mine/{JOB}/manifest.json", "names no file of that result"),
        (f"job://of/mine/{uuid4()}/", "has published no result, or it was removed"),
        (f"job://../{JOB}/", "leaves the results root"),
        ("job://my-key/x", "has no job's id"),
    ):
        wanted = JobSource.parse(source)
        assert wanted is not None
        with pytest.raises(SourceNotFound, match=named):
            find_in_result(source, wanted, root, download_once)


@pytest.mark.parametrize(
    ("source", "job", "path", "directory"),
    [
        (f"job://{JOB}/a/*.jpg", str(JOB), "a/*.jpg", ""),
        (f"job://trips/2026/{str(JOB).upper()}/", str(JOB), "", "trips/2026"),
        (f"job://{JOB}", str(JOB), "", ""),
        ("job://monday/a.csv", "monday", "a.csv", ""),
    ],
)
def test_the_parts_of_a_source(source: str, job: str, path: str, directory: str) -> None:
    assert JobSource.parse(source) == JobSource(job, path, directory)


def test_what_is_no_result_of_a_job() -> None:
    assert JobSource.parse("s3://bucket/x") is None
    assert JobSource.parse("photos/job://x") is None
    assert select(["a[1].csv", "b.csv"], "a[1].csv") == {"a[1].csv": "a[1].csv"}
