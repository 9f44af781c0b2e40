"""Confinement of a job's process: it changes its own stage alone, and reaches what it needs.

What decodes files of users is native code, with faults that nobody knows yet. Code that takes over
a job finds that it can write temporary files, its own stage and, in its results directory, folders
that are not there yet; read nothing of the home but inputs and results; send signals to its own
processes alone; not look into the memory of others; and, where its task says so, connect to the
server alone.

By Landlock, where the kernel has it. A container without it has its mounts and network, and a
process of the pool `process` the rights of the worker's user, as before.
"""

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.client.schemas.objects import FlowRun

from tasks.contracts import SERVER_ALONE, TOPICS, job_id
from tasks.settings import STAGE_VARIABLE, Settings, adopt, api_url, network
from tasks.storage.machine_code import FOLDER as MACHINE_CODE
from tasks.storage.results import local_files
from work_pools.entrypoint import landlock
from work_pools.entrypoint.capabilities import keep_those_for_files
from work_pools.entrypoint.landlock import ALL, Access
from work_pools.forking.folders import empty
from work_pools.forking.leftovers import temporary_prefix

_DIRECTORY = "results_directory"  # a parameter of every job
_PART = "part"  # the parameter of helper flows
# What any program may write to. Of the devices only these: a job may be root's.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/shm", "/dev/mqueue")
_TREE = Path(__file__).parents[2]
_NEW_FOLDERS = Access.MAKE_DIR | Access.REFER
_OWN_STAGES = Access.MAKE_DIR | Access.REMOVE_DIR  # to make a stage, rename and remove it
_PORTS = {"http": 80, "https": 443}


@contextmanager
def confined(run: FlowRun) -> Generator[None]:
    """Confine this process, which must have one thread so far, to what its flow run needs.

    It stays so when the block ends: then the stage is removed, if it is still there. Runs that are
    neither jobs nor helpers of jobs are left alone, as are all where the settings say so, or the
    kernel cannot.
    """
    settings = Settings()
    is_job = _DIRECTORY in run.parameters
    able = settings.confine and landlock.version() >= landlock.MOVES_FOLDERS
    if not able or not (is_job or _PART in run.parameters):
        yield
        return
    root = settings.results
    with contextlib.suppress(OSError):  # a tree that cannot be written: each job compiles anew
        MACHINE_CODE.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(run) as temporary:
        usual = {Path(device): ALL for device in _DEVICES} | {MACHINE_CODE: ALL, **temporary}
        if not isinstance(root, Path):
            with contextlib.suppress(OSError):  # the job will find the same, and say so
                settings.scratch.mkdir(parents=True, exist_ok=True)
            _restrict(settings, {**usual, settings.scratch: ALL})
            yield
        elif is_job:
            parent = _first_that_exists(root, str(run.parameters[_DIRECTORY]))
            with _own_stage(root, run) as stage:
                results = {parent: _NEW_FOLDERS, **_of_stage(root, stage), **_topics(root, run)}
                _restrict(settings, {**usual, **results})
                yield
        else:
            # A helper has a stage, and puts files into that of the job.
            _restrict(settings, {**usual, root / local_files.STAGING: ALL})
            yield


def _restrict(settings: Settings, rights: Mapping[Path, Access]) -> None:
    stored_here = isinstance(settings.results, Path) and settings.s3_credentials is None
    bounded = network() == SERVER_ALONE and stored_here
    readable = _readable(settings)
    together = {**readable, **rights}
    for place in readable.keys() & rights.keys():
        together[place] = readable[place] | rights[place]
    keep_those_for_files()
    landlock.restrict(
        landlock.Rules(together, not readable, [_api_port()] if bounded else None),
    )


def _readable(settings: Settings) -> dict[Path, Access]:
    """Rights to read all files but those of the home; empty where it is not here, or not hidden.

    Landlock has no rule that forbids: all that stands beside the home is allowed, and beside each
    folder above it.
    """
    home = settings.home.resolve()
    if not home.is_dir():
        return {}  # in a container
    shown = [settings.inputs, settings.scratch]
    shown += [settings.results] if isinstance(settings.results, Path) else []
    code = (_TREE, Path(sys.prefix), Path(sys.base_prefix))
    shown += [each for each in code if each.is_relative_to(home)]
    place = home
    for folder in home.parents:
        try:
            beside = [each for each in folder.iterdir() if each != place]
        except PermissionError:
            return {}  # it may be entered, not listed: what stands there cannot be allowed
        # What is behind a link stands elsewhere, and is allowed there, or leads into the home.
        shown += [each for each in beside if not each.is_symlink()]
        place = folder
    return dict.fromkeys(shown, Access.READ_FILE)


@contextmanager
def _temporary_folder(run: FlowRun) -> Generator[dict[Path, Access]]:
    """Rights in the run's own folder of temporary files, also where /tmp is a container's own:
    inputs and results may be mounted below it."""
    shared = tempfile.gettempdir()
    own = tempfile.mkdtemp(prefix=temporary_prefix(str(run.id)))
    # The home of a container's user is /tmp.
    adopt({"TMPDIR": own} | ({"HOME": own} if Path.home() == Path(shared) else {}))
    tempfile.tempdir = None
    try:
        yield {Path(own): ALL}
    finally:
        # The empty folder is left, for the fork server: this process may not change its parent.
        with contextlib.suppress(OSError):
            empty(Path(own))


@contextmanager
def _own_stage(root: Path, run: FlowRun) -> Generator[Path | None]:
    """The folder of the attempt's stage, made before the job has lost the right to make any.

    None where it cannot be made: the job will find the same, and say so.
    """
    token = secrets.token_hex(4)
    stage = local_files.stage_folder(root, job_id(run.labels, run.id), run.id, token)
    try:
        stage.mkdir(parents=True)
    except OSError:
        yield None
        return
    adopt({STAGE_VARIABLE: token})
    try:
        yield stage
    finally:
        local_files.discard(stage)


def _of_stage(root: Path, stage: Path | None) -> dict[Path, Access]:
    """Rights in the stage, and in Prefect's records of return values."""
    if stage is None:
        return {root: ALL}
    records = root / local_files.RECORDS
    with contextlib.suppress(OSError):  # Prefect makes it, too, and says why it cannot
        records.mkdir(exist_ok=True)
    return {stage: ALL, stage.parent: _OWN_STAGES, records: ALL}


def _topics(root: Path, run: FlowRun) -> dict[Path, Access]:
    """Rights in the topics that are folders, where the job delivers to a topic."""
    payload: Any = run.parameters.get("payload")
    if not isinstance(payload, dict) or "topic" not in payload:
        return {}
    with contextlib.suppress(OSError):  # the job will find the same, and say so
        (root / TOPICS).mkdir(exist_ok=True)
    return {root / TOPICS: ALL}


def _first_that_exists(root: Path, directory: str) -> Path:
    """The results directory, or the folder that it will be made in."""
    place = root / directory
    while place != root and not os.path.isdir(place):  # noqa: PTH112  # Path raises for a long name
        place = place.parent
    # A directory that leads outside, by a link or "..", is refused when the stage is opened.
    return place if place.resolve().is_relative_to(root.resolve()) else root


def _api_port() -> int:
    address = urlsplit(api_url() or "")
    return address.port or _PORTS.get(address.scheme, 0)
