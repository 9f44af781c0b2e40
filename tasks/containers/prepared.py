"""Preparation of a container from its image: volumes with content, a name for the jobs' user."""

import os
import shutil
import tarfile
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile

import docker
from docker.errors import APIError, NotFound

from tasks.containers.engine import api, engine_call, engine_outages
from tasks.containers.images.pinned import Image
from tasks.errors import EngineUnavailable, InvalidPayload

USER_NAME = "prefecture"
"""Name of the jobs' uid in a container whose image has no name for it."""
_MOST_BYTES = 10 * 2**30  # maximum of one volume's content
_ACCOUNTS = 2**20  # maximum bytes of /etc/passwd, and of /etc/group


@dataclass(frozen=True)
class Prepared:
    """Folders and files to mount in a container, by their paths inside it."""

    filled: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Volumes with the image's content: writable folders of this user."""
    empty: tuple[str, ...] = ()
    """Volumes without content in the image."""
    accounts: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """/etc/passwd and /etc/group with a name for the jobs' user, where the image has none."""
    output: str = ""
    """A second mount point of /output: WORKDIR/output; empty where the image uses that path."""

    def copied(self, folder: Path) -> "Prepared":
        """The same for one more container, with copies of the filled volumes in `folder`."""
        copies: dict[str, Path] = {}
        for number, (path, content) in enumerate(self.filled.items()):
            copies[path] = folder / f"volume-{number}"
            shutil.copytree(content, copies[path], symlinks=True)
        return replace(self, filled=copies)


def prepare(
    client: docker.DockerClient,
    labels: Mapping[str, str],
    image: Image,
    folder: Path,
    mounted: Collection[str] = (),
    output: Path | None = None,
) -> Prepared:
    """Copy from an image to `folder` what its container needs.

    `labels`: for the container that is created to read the image, and never started. `mounted`:
    paths with other mounts; `output`: the folder that becomes /output. Raises InvalidPayload where
    a volume holds more than 10 GiB, EngineUnavailable.
    """
    folder.mkdir(parents=True)
    with _probe(client, labels, image) as probe:
        filled: dict[str, Path] = {}
        empty: list[str] = []
        # All of them, nested ones too: for any that is left out the engine would create a volume
        # of its own without a limit. Sorted, so that outer volumes come first.
        for path in sorted(map(_normal, image.volumes)):
            if path in {"/", "/tmp", "/output", *mounted}:
                continue
            around = next((one for one in filled if _is_below(path, (one,))), None)
            place = folder / f"volume-{len(filled)}"
            if around is not None:
                # Behind a link it has a folder of its own: here the link may lead anywhere.
                place = _place_in(filled[around], path, around) or place
            elif output is not None and _is_below(path, ("/output",)):
                place = output / PurePosixPath(path).relative_to("/output")
            inside = place.parent != folder
            if _copy_out(client, probe, path, place) or inside:
                place.mkdir(parents=True, exist_ok=True)  # the engine would create it as root
                if around is not None:
                    _open_way(place, filled[around])
                filled[path] = place
            else:
                empty.append(path)
        accounts = _accounts(client, probe, folder)
        relative = ""
        if output is not None:
            relative = _relative_output(client, probe, image, mounted)
            for path, place in filled.items():
                if relative and _is_below(relative, (path,)):
                    at = _place_in(place, relative, path)
                    if at is None:
                        relative = ""
                    else:
                        at.mkdir(parents=True, exist_ok=True)
    return Prepared(filled, tuple(empty), accounts, relative)


def _normal(path: str) -> str:
    return os.path.normpath(f"/{path.lstrip('/')}")


def _place_in(copy: Path, path: str, around: str) -> Path | None:
    """The place of a path in the copy of a folder around it; None where a link is on the way."""
    place = copy
    for part in PurePosixPath(path).relative_to(around).parts:
        place /= part
        if place.is_symlink():
            return None
    return place


def _open_way(place: Path, root: Path) -> None:
    """Let the broker, which may be another user, pass to a folder that is below another one."""
    for folder in place.parents:
        if folder.is_relative_to(root):
            folder.chmod(folder.stat().st_mode | 0o001)


def _is_below(path: str, folders: Collection[str]) -> bool:
    """Whether a path is one of the folders, or inside one."""
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


@contextmanager
def _probe(client: docker.DockerClient, labels: Mapping[str, str], image: Image) -> Generator[str]:
    """A container of the image that is never started: the engine reads files only of containers."""
    with engine_call("the image cannot be read"):
        made = api(client).create_container(
            image.id,
            command=["never started"],
            labels=dict(labels),
            host_config=api(client).create_host_config(network_mode="none"),
            use_config_proxy=False,
        )
    id = str(made["Id"])
    try:
        yield id
    finally:
        with engine_call("a container cannot be removed"):
            api(client).remove_container(id, force=True, v=True)


@contextmanager
def _archive(
    client: docker.DockerClient, probe: str, path: str, most: int
) -> Generator[tarfile.TarFile | None]:
    """The content of a path in an image as a tarball; None where the path does not exist.

    Raises InvalidPayload where it has more than `most` bytes.
    """
    with TemporaryFile() as packed:
        try:
            with engine_outages():
                pieces, _ = api(client).get_archive(probe, path)
                for piece in pieces:
                    packed.write(piece)
                    if packed.tell() > most:
                        raise InvalidPayload(
                            f"the image has more than {most / 2**20:,.0f} MiB at {path}: use an "
                            "image with less there"
                        )
        except NotFound:
            pass
        except EngineUnavailable as error:
            if not isinstance(error.__cause__, APIError):
                raise
            # The path is not a folder, as expected: the engine will refuse the mount.
        if not packed.tell():
            yield None
            return
        packed.seek(0)
        with tarfile.open(fileobj=packed) as tar:
            yield tar


def _copy_out(client: docker.DockerClient, probe: str, path: str, to: Path) -> bool:
    """Copy a folder of an image. Returns whether there is anything in it.

    Devices and pipes are left out. The copies belong to this user.
    """
    found = False
    # With "/." at its end a link is followed, as the engine does for a volume.
    with _archive(client, probe, f"{path}/.", _MOST_BYTES) as tar:
        for member in tar or ():
            inside = _inside(member.name)
            if not inside or member.isdev():
                continue
            found = True
            least = 0o700 if member.isdir() else 0o600
            link = _inside(member.linkname) if member.islnk() else member.linkname
            placed = member.replace(
                name=inside, linkname=link, mode=(member.mode & 0o777) | least, deep=False
            )
            to.mkdir(parents=True, exist_ok=True)
            # Links may lead anywhere: only the container follows them.
            assert tar is not None
            tar.extract(placed, to, filter="tar")
    return found


def _inside(name: str) -> str:
    """A path in the engine's tarball of a folder without the folder's name in front."""
    return name.partition("/")[2].strip("/")


def _accounts(client: docker.DockerClient, probe: str, folder: Path) -> dict[str, Path]:
    """Write /etc/passwd and /etc/group with the jobs' user: many programs need its name."""
    uid, gid = os.getuid(), os.getgid()
    wanted = {
        "/etc/passwd": (uid, f"{USER_NAME}:x:{uid}:{gid}:{USER_NAME}:/tmp:/bin/sh\n"),
        "/etc/group": (gid, f"{USER_NAME}:x:{gid}:\n"),
    }
    made: dict[str, Path] = {}
    for path, (id, line) in wanted.items():
        text = _text(client, probe, path)
        if text is None or any(_id(entry) == str(id).encode() for entry in text.splitlines()):
            continue
        made[path] = folder / PurePosixPath(path).name
        gap = b"" if not text or text.endswith(b"\n") else b"\n"
        made[path].write_bytes(text + gap + line.encode())
        made[path].chmod(0o644)
    return made


def _id(entry: bytes) -> bytes:
    """The uid in a line of /etc/passwd, or the gid in a line of /etc/group."""
    return b"".join(entry.split(b":")[2:3])


def _text(client: docker.DockerClient, probe: str, path: str) -> bytes | None:
    """A small file of the image: empty where there is none, None where it is not a file."""
    with _archive(client, probe, path, _ACCOUNTS) as tar:
        if tar is None:
            return b""
        member = tar.next()
        file = tar.extractfile(member) if member is not None and member.isreg() else None
        return file.read() if file is not None else None


def _relative_output(
    client: docker.DockerClient, probe: str, image: Image, mounted: Collection[str]
) -> str:
    """WORKDIR/output, where the image has nothing or an empty folder there; else empty."""
    path = _normal(f"{image.workdir}/output")
    if _is_below(path, ("/proc", "/sys", "/dev", "/output", *mounted)):
        return ""
    try:
        with _archive(client, probe, path, _ACCOUNTS) as tar:
            if tar is None:
                return path
            members = tar.getmembers()
    except InvalidPayload:
        return ""  # the image has more than _ACCOUNTS bytes there
    return path if len(members) == 1 and members[0].isdir() else ""
