"""Prepares the folders on this host that jobs read and write, for the user jobs run as."""

import os
from pathlib import Path

from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import Settings
from tasks.storage.results.local_files import MANIFEST, RECORDS, STAGING

_OWN = (RECORDS, STAGING)


def prepare_folders(settings: Settings, pool: Pool) -> None:
    """Create the inputs root, and the folder that jobs write: the results root, or the scratch.

    Raises OperatorError where the jobs' user could not write the latter.
    """
    settings.inputs.mkdir(parents=True, exist_ok=True)
    folders = (settings.written, *(settings.written / name for name in _OWN))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    if pool is Pool.DOCKER:
        user, group = map(int, settings.user.split(":"))
        if os.getuid() == 0:
            _hand_over(settings.written, user, group)
        for folder in folders:
            _check_writable(folder, user, group)


def _hand_over(results: Path, user: int, group: int) -> None:
    """Give folders that root owns to the jobs' user; published results are left as they are.

    Root owns the folders made just now, and those made by jobs of the process pool. Folders of
    other users are left alone.
    """
    for place, subfolders, files in os.walk(results):
        if MANIFEST in files:
            subfolders.clear()
        elif Path(place).stat().st_uid == 0:
            os.chown(place, user, group)


def _check_writable(results: Path, user: int, group: int) -> None:
    status = results.stat()
    bits = 0o300 if status.st_uid == user else 0o030 if status.st_gid == group else 0o003
    if status.st_mode & bits != bits:
        raise OperatorError(
            f"{results} cannot be written by {user}:{group}, which jobs run as: give that user "
            "the folder, or set PREFECTURE_CONTAINER_USER to its owner's uid:gid"
        )
