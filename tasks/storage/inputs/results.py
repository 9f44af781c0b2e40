"""Sources in the results of other jobs: what a manifest lists, and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

from tasks.contracts import JobSource, Manifest, stays_inside
from tasks.errors import SourceNotFound
from tasks.storage.inputs.local import Glob, InputFile, LocalFile, split_glob, version
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
    names = select([file.path for file in result.manifest.files], wanted.path)
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
            f"source '{source}': job {job} has published no result: wait until it has completed, "
            "or submit this job with `--after`"
        )
    return result


def select(paths: Sequence[str], pattern: str) -> dict[str, str]:
    """Select the paths of a pattern, by their names in the source: relative to its folder.

    A literal file or folder wins over a glob. No pattern selects all.
    """
    pattern = pattern.strip("/")
    if pattern in paths:
        return {pattern.rpartition("/")[2]: pattern}
    prefix = f"{pattern}/" if pattern else ""
    if found := {path.removeprefix(prefix): path for path in paths if path.startswith(prefix)}:
        return found
    folder, rest = split_glob(pattern)
    prefix, glob = f"{folder}/" if folder else "", Glob(rest)
    names = {path.removeprefix(prefix): path for path in paths if path.startswith(prefix)}
    return {name: path for name, path in names.items() if glob.matches(name)}


def _input(name: str, file: "PublishedFile", result: Result, fetch: Fetch) -> InputFile:
    manifest: Manifest = result.manifest
    if isinstance(result, S3Result):
        key = result.place.key(manifest.folder, file.path)
        return cast(InputFile, S3Object(name, result.client, result.place.bucket, key, fetch))
    path = Path(result.location) / file.path
    return LocalFile(name, path, version(path))
