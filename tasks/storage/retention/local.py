"""Results in a folder: a removed one is renamed to the staging folder first, and then deleted.

Who reads a result holds a shared lock of its manifest (`LocalResult.reading`), which the kernel
releases when that process ends. A result that is locked is not removed.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from tasks.errors import CorruptResult
from tasks.storage.results import local_files
from tasks.storage.retention.records import REMOVED, KeptResult, RemovedResult

_REMEMBERED = timedelta(days=365)


class LocalRetention:
    """The results in a folder. It remembers manifests that it has read, while they are the same."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[int, KeptResult]] = {}
        """By place: the time of the manifest's last change, and what it says."""

    def results(self) -> Iterator[KeptResult]:
        """Look in all folders under the root, and in none of a result."""
        known, self._known = self._known, {}
        for folder, below, files in os.walk(self._root):
            if local_files.MANIFEST in files:
                below.clear()
                found = self._read(Path(folder), known)
                if found is not None:
                    yield found
            below[:] = sorted(name for name in below if not name.startswith("."))

    def remove(self, result: KeptResult, reason: str) -> bool:
        """Lock the manifest, write the record, rename the folder, delete it."""
        folder = self._root / result.place
        name = f"{result.job}.{result.flow_run}.{secrets.token_hex(4)}"
        away = self._root / local_files.STAGING / name
        with local_files.writing(self._root):
            try:
                descriptor = _open(folder / local_files.MANIFEST)
            except FileNotFoundError:
                return False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._record(result, reason)
                away.parent.mkdir(exist_ok=True)
                folder.rename(away)
            except (BlockingIOError, FileNotFoundError):
                return False
            finally:
                os.close(descriptor)
        local_files.discard(away)
        return True

    def removed(self, job: UUID) -> RemovedResult | None:
        """Read the record of a removed result."""
        try:
            return RemovedResult.model_validate_json(self._place_of(job).read_bytes())
        except (OSError, ValidationError):
            return None

    def finish(self) -> None:
        """Delete records of more than a year ago. Stages that are left, the supervisor deletes."""
        before = (datetime.now(UTC) - _REMEMBERED).timestamp()
        for record in (self._root / REMOVED).glob("*"):
            with suppress(FileNotFoundError):
                if record.stat().st_mtime < before:
                    record.unlink()

    def _read(self, folder: Path, known: dict[str, tuple[int, KeptResult]]) -> KeptResult | None:
        place = folder.relative_to(self._root).as_posix()
        with suppress(FileNotFoundError, CorruptResult):
            changed = (folder / local_files.MANIFEST).stat().st_mtime_ns
            if place in known and known[place][0] == changed:
                found = known[place][1]
            else:
                found = KeptResult.of(place, local_files.read_manifest(folder))
            if folder.name != str(found.job):
                return None  # a copy of a result, or none of ours
            self._known[place] = (changed, found)
            return found
        return None

    def _record(self, result: KeptResult, reason: str) -> None:
        place = self._place_of(result.job)
        place.parent.mkdir(exist_ok=True)
        new = place.with_name(f"{place.name}.{secrets.token_hex(4)}.new")
        new.write_text(result.removed(reason).model_dump_json())
        new.rename(place)

    def _place_of(self, job: UUID) -> Path:
        return self._root / REMOVED / f"{job}.json"


def _open(manifest: Path) -> int:
    """Open a manifest to lock it: for writing where it may be, which NFS needs for this lock."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(manifest, os.O_RDWR | flags)
    except PermissionError:
        return os.open(manifest, os.O_RDONLY | flags)
