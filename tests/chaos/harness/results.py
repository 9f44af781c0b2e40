"""What stands under a results root: nothing twice, nothing in part, nothing left behind."""

import os
from collections import defaultdict
from pathlib import Path
from uuid import UUID

from tasks.errors import CorruptResult
from tasks.storage.results import local_files


def places(root: Path, below: str) -> dict[str, list[Path]]:
    """The folders of all jobs, by name, wherever they stand; every folder of `below`, too.

    `below` is a results directory whose folders hold nothing but jobs' results.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for here, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        path = Path(here)
        depth = len(path.relative_to(root).parts)
        if local_files.MANIFEST in files or (depth == 3 and path.is_relative_to(root / below)):
            found[path.name].append(path)
            folders.clear()
    return found


def wrong_with(folder: Path, job: UUID) -> str:
    """Why a result is not whole; empty where it is."""
    if not (folder / local_files.MANIFEST).is_file():
        return f"{folder} has no manifest"
    try:
        manifest = local_files.read_manifest(folder)
        local_files.verify(folder, manifest)
    except CorruptResult as error:
        return str(error)
    if manifest.job != job:
        return f"{folder} is of job {manifest.job}"
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    listed = {file.path for file in manifest.files} | {local_files.MANIFEST}
    return f"{folder} holds {sorted(there ^ listed)} besides" if there != listed else ""


def publishers(root: Path, job: UUID) -> set[str]:
    """The attempts that say of themselves that their result stands."""
    log = root / local_files.RECORDS / "gates" / f"{job}.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return {line.split()[2] for line in lines if line.startswith("published ")}


def staged(root: Path) -> list[Path]:
    """The stages in the staging folder, beside which a check of the disk writes for a moment."""
    found = (root / local_files.STAGING).glob("*")
    return [path for path in found if not path.name.startswith("check.")]
