"""Files of users on the disk: `users/<name>/…` under the inputs root."""

import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from deployments.gateway.uploads.folders import exists, open_folder
from deployments.gateway.uploads.records import (
    PARTS,
    USERS,
    Staged,
    Uploaded,
    UploadExists,
    mixed_up,
    split,
)
from deployments.gateway.uploads.sources import names_others
from deployments.gateway.uploads.store import Check
from tasks.errors import FileUnreadable, InvalidPayload, SourceNotFound
from tasks.storage.inputs.local import find_local, is_glob


class DiskStore:
    """The files under the inputs root. A staged file, on the same disk, is renamed."""

    def __init__(self, inputs: Path) -> None:
        self._inputs = inputs

    def source(self, user: str, path: str) -> str:
        """Relative to the inputs root."""
        return f"{USERS}/{user}/{path}"

    def find(self, user: str, path: str) -> Uploaded | None:
        """Look without following a link."""
        *folders, name = split(path)
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            open_folder(self._inputs, user, folders) as folder,
        ):
            return self._uploaded(user, path, folder, name)
        return None

    def check(self, user: str, path: str, *, overwrite: bool) -> None:
        """Look for what is in its place."""
        *folders, name = split(path)
        try:
            with open_folder(self._inputs, user, folders) as folder:
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise mixed_up(path) from None
        if stat.S_ISDIR(mode):
            raise mixed_up(path)
        if not overwrite and stat.S_ISREG(mode):
            raise UploadExists.of(path)

    def check_in(self, user: str, folder: str, *, overwrite: bool) -> Check:
        """Look for each file."""
        return partial(self.check, user, overwrite=overwrite)

    def put(self, user: str, files: Sequence[Staged], *, overwrite: bool) -> list[Uploaded]:
        """Rename the files, folder by folder. Those before an error keep their names."""
        folders: dict[tuple[str, ...], list[Staged]] = defaultdict(list)
        for file in files:
            folders[tuple(split(file.path)[:-1])].append(file)
        done: list[Uploaded] = []
        for parts, inside in folders.items():
            path = inside[0].path
            try:
                with open_folder(self._inputs, user, parts, make=True) as target:
                    for file in inside:
                        path = file.path
                        done.append(self._rename(user, file, target, overwrite=overwrite))
                    os.fsync(target)
            except (NotADirectoryError, IsADirectoryError):
                raise mixed_up(path) from None
        return done

    def listed(self, user: str, under: str = "") -> Iterator[Uploaded]:
        """Walk through the folders, and follow no link."""
        own = self._inputs / USERS / user
        if under and (file := self.find(user, under)) is not None:
            yield file
            return
        for folder, folders, names in os.walk(own.joinpath(*split(under)) if under else own):
            folders[:] = sorted(name for name in folders if name != PARTS)
            for name in sorted(names):
                place = Path(folder) / name
                with suppress(FileNotFoundError):  # it has just been deleted
                    status = place.lstat()
                    if stat.S_ISREG(status.st_mode):
                        yield self._described(user, place.relative_to(own).as_posix(), status)

    def delete(self, user: str, path: str) -> None:
        """Delete it at once."""
        *folders, name = split(path)
        try:
            with open_folder(self._inputs, user, folders) as folder:
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            raise SourceNotFound(f"there is no file or folder {path!r}") from None

    def users(self) -> list[str]:
        """The folders."""
        with suppress(FileNotFoundError):
            folder = self._inputs / USERS
            return sorted(each.name for each in folder.iterdir() if each.is_dir())
        return []

    def used(self, user: str) -> int:
        """Count anew."""
        used, own = 0, self._inputs / USERS / user
        for folder, folders, names in os.walk(own):
            if Path(folder) == own:
                folders[:] = [name for name in folders if name != PARTS]
            for name in names:
                with suppress(FileNotFoundError):
                    used += (Path(folder) / name).lstat().st_size
        return used

    def remove_empty(self, user: str, before: float) -> None:
        """Remove them from below."""
        own = self._inputs / USERS / user
        for folder, _, _ in os.walk(own, topdown=False):
            place = Path(folder)
            with suppress(OSError):  # it has files
                if place != own and place.name != PARTS and place.stat().st_mtime < before:
                    place.rmdir()

    def remove_unfinished(self, before: float) -> None:
        """Nothing is left: a file is renamed at once."""

    def has_of_others(self, user: str, source: str) -> bool:
        """Compare the path with those of users."""
        return "://" not in source and names_others(source, [USERS], user)

    def is_missing(self, source: str) -> bool:
        """Look for one file, or as a job does. Where no user has a folder, another gateway may have
        received it."""
        top, _, rest = source.partition("/")
        user, _, path = rest.rstrip("/").partition("/")
        if top != USERS or not user or not (self._inputs / USERS).is_dir():
            return False
        with suppress(InvalidPayload):
            if not is_glob(path) and next(self.listed(user, path), None) is not None:
                return False
        try:
            find_local(source, self._inputs)
        except FileUnreadable:  # it is there
            return False
        except SourceNotFound:
            return True
        return False

    def probe(self) -> None:
        """Nothing is tried: folders are made when they are needed."""

    def _rename(self, user: str, file: Staged, target: int, *, overwrite: bool) -> Uploaded:
        name = file.path.rpartition("/")[2]
        # Another file of that name may have come since, from an archive or from this path.
        if not overwrite and exists(name, target):
            raise UploadExists.of(file.path)
        os.rename(file.name, name, src_dir_fd=file.folder, dst_dir_fd=target)
        found = self._uploaded(user, file.path, target, name)
        assert found is not None
        return found

    def _uploaded(self, user: str, path: str, folder: int, name: str) -> Uploaded | None:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return self._described(user, path, status) if stat.S_ISREG(status.st_mode) else None

    def _described(self, user: str, path: str, status: os.stat_result) -> Uploaded:
        return Uploaded(path, self.source(user, path), status.st_size, status.st_mtime)
