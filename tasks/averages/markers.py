"""Marker files without data that Spark, Databricks, Parquet and Delta leave in a folder."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tasks.storage.inputs.local import InputFile

_NAMES = ("_SUCCESS", "_metadata", "_common_metadata", "_committed_*", "_started_*", "*.crc")
_FOLDERS = frozenset({"_temporary", "_delta_log", "_spark_metadata"})


def without_markers(files: Sequence[InputFile]) -> tuple[list[InputFile], list[str]]:
    """Split files into those that may hold numbers and the names of marker files.

    Hidden local files need no rule here: a folder as a source does not include them.
    """
    left_out = [file.name for file in files if _is_marker(file.name)]
    left = frozenset(left_out)
    return [file for file in files if file.name not in left], left_out


def _is_marker(name: str) -> bool:
    *folders, last = name.split("/")
    return bool(_FOLDERS.intersection(folders)) or any(fnmatchcase(last, one) for one in _NAMES)
