"""Sources in the results of other jobs: what a manifest lists, and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

from tasks.contracts import JobSource, Manifest, stays_inside
from tasks.errors import SourceNotFound
from tasks.storage.inputs.local import InputFile, LocalFile, select, version
from tasks.storage.inputs.s3 import Fetch, S3Object
from tasks.storage.results.interface import Result, ResultsRoot
from tasks.storage.results.s3_result import S3Result

if TYPE_CHECKING:
    from tasks.contracts import PublishedFile


def find_in_result(
    source: str, wanted: JobSource, root: ResultsRoot, fetch: Fetch
) -> list[InputFile]:
    """Find the files of another job's result that a source names, sorted by name. Blocking.

    `fetch`: how an object in S3 is downloaded. Raises SourceNotFound where the job has published no
    result, or none of its files is meant; CorruptResult; StorageUnavailable where S3 does not
    answer.
    """
    result = _result(source, wanted, root)
    names = select([file.path for file in result.manifest.files], wanted.path.strip("/"))
    if not names:
        raise SourceNotFound(
            f"source '{source}' names no file of that result: `prefecture results {wanted.job}` "
            "lists them"
        )
    files = {file.path: file for file in result.manifest.files}
    return [_input(name, files[names[name]], result, fetch) for name in sorted(names)]


def _result(source: str, wanted: JobSource, root: ResultsRoot) -> Result:
    try:
        job = UUID(wanted.job)
    except ValueError:
        raise SourceNotFound(
            f"source '{source}' has no job's id: submit it with `prefecture submit` or through the "
            "gateway, or write job://<job id>/<path>"
        ) from None
    if wanted.directory and not stays_inside(wanted.directory):
        raise SourceNotFound(f"source '{source}' leaves the results root: leave out '..'")
    result = root.find(wanted.directory, job) if wanted.directory else root.search(job)
    if result is None:
        raise SourceNotFound(
            f"source '{source}': job {job} has published no result, or it was removed: run it "
            "again, or wait until it has completed"
        )
    return result


def _input(name: str, file: "PublishedFile", result: Result, fetch: Fetch) -> InputFile:
    manifest: Manifest = result.manifest
    if isinstance(result, S3Result):
        key = result.place.key(manifest.folder, file.path)
        return cast(InputFile, S3Object(name, result.client, result.place.bucket, key, fetch))
    path = Path(result.location) / file.path
    return LocalFile(name, path, version(path))
