"""Mounts of a job's containers: folders of its own stages, and inputs, even if a path is replaced.

A job may change its stage at any time, also between the broker's check of a path and the moment at
which the engine, which is root, follows it. So the engine gets no path in a stage: it mounts the
folder that the broker holds open, by a volume whose device is the broker's descriptor in /proc. The
volume has no name, and is removed with its container.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any

from tasks.containers.broker.http import Refused
from tasks.containers.broker.runs import Run
from tasks.containers.broker.stages import FOLDER, STAGING, Stage, stage_named
from tasks.containers.broker.templates import Mount
from tasks.contracts import SECRETS_FOLDER, SECRETS_VOLUME

_ACCOUNTS = ("/etc/passwd", "/etc/group")
_MOST_ACCOUNTS = 2**21  # bytes
_COPY = "copy."  # then the number of the broker's process: names of folders with copies


class Roots:
    """The folders of a host that jobs read and write.

    `inputs`: what they read; `written`: the folder of their stages; `stages`: those of the run that
    asks, by their names; `own`: a folder of the broker, which jobs cannot write.
    """

    def __init__(self, inputs: Path, written: Path, stages: Mapping[str, Stage], own: Path) -> None:
        self._inputs = inputs.resolve()
        self._written = written.resolve()
        self._given = (inputs, written)
        self._stages = stages
        self._own = own

    def mount(self, asked: Mount, run: Run, held: ExitStack) -> dict[str, Any]:
        """A mount for the engine. `held`: to be closed when the container has been removed.

        Raises Refused for any other folder than one of the run's stage, or of the inputs.
        """
        if asked.Type == "volume":
            return _secrets(asked, run)
        for given, real in zip(self._given, (self._inputs, self._written), strict=True):
            source = PurePosixPath(asked.Source)
            if not source.is_relative_to(given):
                continue
            parts = source.relative_to(given).parts
            if ".." in parts:
                break
            if real == self._inputs:
                return self._input(asked, real.joinpath(*parts), held)
            if len(parts) > 2 and parts[0] == STAGING:
                return self._of_stage(asked, stage_named(parts[1], self._stages), parts[2:], held)
        raise Refused(403, f"the mount {asked.Source[:200]} does not belong to this run")

    def _input(self, asked: Mount, place: Path, held: ExitStack) -> dict[str, Any]:
        if not asked.ReadOnly:
            raise Refused(403, "inputs are mounted read-only")
        with suppress(OSError):
            # Jobs cannot write there: a link is the operator's, and stays what it is.
            real = place.resolve(strict=True)
            if real.is_relative_to(self._inputs):
                if real.is_dir():
                    with ExitStack() as passed:
                        root = os.open("/", FOLDER)
                        passed.callback(os.close, root)
                        return _folder(asked, root, (".", *real.parts[1:]), held)
                if real.is_file():
                    return _bind(real, asked.Target)
        raise Refused(403, f"the mount {asked.Source[:200]} is no file or folder of the inputs")

    def _of_stage(
        self, asked: Mount, stage: Stage, parts: Sequence[str], held: ExitStack
    ) -> dict[str, Any]:
        if asked.ReadOnly and asked.Target in _ACCOUNTS:
            return _bind(self._copied(stage, parts, held), asked.Target)
        return _folder(asked, stage.descriptor, parts, held)

    def _copied(self, stage: Stage, parts: Sequence[str], held: ExitStack) -> Path:
        """A copy of a small file of a stage, in the broker's own folder."""
        with ExitStack() as opened:
            folder = _opened(stage.descriptor, (".", *parts[:-1]), opened)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                file = os.open(parts[-1], flags, dir_fd=folder)
            except OSError as error:
                raise _unopened(error) from None
            opened.callback(os.close, file)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Refused(403, f"{parts[-1]} is no file")
            with os.fdopen(file, "rb", closefd=False) as source:
                data = source.read(_MOST_ACCOUNTS + 1)
        if len(data) > _MOST_ACCOUNTS:
            raise Refused(403, f"{parts[-1]} has more than {_MOST_ACCOUNTS:,} bytes")
        folder = Path(mkdtemp(prefix=f"{_COPY}{os.getpid()}.", dir=self._own))
        folder.chmod(0o711)
        copy = folder / "file"
        held.callback(_removed, copy)
        copy.write_bytes(data)
        copy.chmod(0o644)
        return copy


def remove_left(own: Path) -> None:
    """Remove the copies of brokers that were killed. `own`: as that of Roots."""
    for folder in own.glob(f"{_COPY}*"):
        process = folder.name.split(".")[1]
        if not Path("/proc", process).exists():
            _removed(folder / "file")


def _secrets(asked: Mount, run: Run) -> dict[str, Any]:
    name = f"{SECRETS_VOLUME}{run.id}"
    if (asked.Source, asked.Target, asked.ReadOnly) != (name, SECRETS_FOLDER, True):
        raise Refused(403, f"the volume {asked.Source[:200]} does not belong to this run")
    return secrets_volume(run, read_only=True)


def secrets_volume(run: Run, *, read_only: bool) -> dict[str, Any]:
    """The mount of the volume with a run's secrets."""
    return {
        "Type": "volume",
        "Source": f"{SECRETS_VOLUME}{run.id}",
        "Target": SECRETS_FOLDER,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _bind(source: Path, target: str) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": True}


def _folder(asked: Mount, root: int, parts: Sequence[str], held: ExitStack) -> dict[str, Any]:
    """The mount of the folder that is there now, even if another one replaces it later."""
    opened = _opened(root, parts, held)
    options: Mapping[str, str] = {
        "type": "none",
        # The engine takes no other read-only volume without a name.
        "o": "bind,ro" if asked.ReadOnly else "bind",
        "device": f"/proc/{os.getpid()}/fd/{opened}",
    }
    return {
        "Type": "volume",
        "Target": asked.Target,
        "VolumeOptions": {
            "NoCopy": True,
            "DriverConfig": {"Name": "local", "Options": options},
        },
    }


def _opened(root: int, parts: Sequence[str], held: ExitStack) -> int:
    """A descriptor of a folder below an open one, opened without following links."""
    place = root
    with ExitStack() as passed:
        try:
            for part in parts[:-1]:
                place = os.open(part, FOLDER, dir_fd=place)
                passed.callback(os.close, place)
            last = os.open(parts[-1], FOLDER, dir_fd=place)
        except OSError as error:
            raise _unopened(error) from None
        held.callback(os.close, last)
        return last


def _unopened(error: OSError) -> Refused:
    return Refused(403, f"a mount is no folder or file that the broker can open: {error.strerror}")


def _removed(copy: Path) -> None:
    with suppress(OSError):
        copy.unlink(missing_ok=True)
        copy.parent.rmdir()
