"""What a container needs of its image before it starts: volumes with content, a user's name."""

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

from tasks.containers.engine import api, asking, away
from tasks.containers.images.pinned import Image
from tasks.errors import EngineUnavailable, InvalidPayload

USER_NAME = "prefecture"
"""The name of the jobs' uid inside a container whose image has none for it."""
_MOST_BYTES = 10 * 2**30  # of one volume's content
_ACCOUNTS = 2**20  # bytes of /etc/passwd, and of /etc/group


@dataclass(frozen=True)
class Prepared:
    """What a container is given beside its image, by the path that it sees."""

    filled: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Volumes with what the image has there: folders of ours that it may write."""
    empty: tuple[str, ...] = ()
    """Volumes in which the image has nothing."""
    accounts: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """/etc/passwd and /etc/group with a name for the user, where the image has none."""
    output: str = ""
    """Where a relative path `output/` leads; empty where that is /output, or something else."""

    def copied(self, folder: Path) -> "Prepared":
        """The same for one more container: its volumes are copies in `folder`."""
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
    """Read from an image what its container needs. `folder` takes it; `mounted`: paths that are
    taken by something else; `output`: the folder that becomes /output; `labels`: of the container
    that the image is read through, which never starts.

    Raises InvalidPayload where a volume holds too much, EngineUnavailable.
    """
    folder.mkdir(parents=True)
    with _probe(client, labels, image) as probe:
        filled: dict[str, Path] = {}
        empty: list[str] = []
        # Each of them, those inside another too: in the place of one that is left out the engine
        # puts a volume of its own, which nothing bounds. Those around others come first.
        for path in sorted(map(_normal, image.volumes)):
            if path in {"/", "/tmp", "/output", *mounted}:
                continue
            around = next((one for one in filled if _is_below(path, (one,))), None)
            place = folder / f"volume-{len(filled)}"
            if around is not None:
                place = filled[around] / PurePosixPath(path).relative_to(around)
            elif output is not None and _is_below(path, ("/output",)):
                place = output / PurePosixPath(path).relative_to("/output")
            inside = place.parent != folder
            if _copy_out(client, probe, path, place) or inside:
                place.mkdir(parents=True, exist_ok=True)  # made by the engine it would be root's
                filled[path] = place
            else:
                empty.append(path)
        accounts = _accounts(client, probe, folder)
        relative = ""
        if output is not None:
            relative = _relative_output(client, probe, image, mounted)
            for path, place in filled.items():
                if relative and _is_below(relative, (path,)):
                    at = place / PurePosixPath(relative).relative_to(path)
                    at.mkdir(parents=True, exist_ok=True)
    return Prepared(filled, tuple(empty), accounts, relative)


def _normal(path: str) -> str:
    return os.path.normpath(f"/{path.lstrip('/')}")


def _is_below(path: str, folders: Collection[str]) -> bool:
    """Whether a path is one of some folders, or inside of one."""
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


@contextmanager
def _probe(client: docker.DockerClient, labels: Mapping[str, str], image: Image) -> Generator[str]:
    """A container of the image that is never started: only through one the engine reads files."""
    with asking("the image cannot be read"):
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
        with asking("a container stays"):
            api(client).remove_container(id, force=True, v=True)


@contextmanager
def _archive(
    client: docker.DockerClient, probe: str, path: str, most: int
) -> Generator[tarfile.TarFile | None]:
    """What an image has at a path, as a tarball; None for nothing.

    Raises InvalidPayload where it is more than `most` bytes.
    """
    with TemporaryFile() as packed:
        try:
            with away():
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
            # It is not what it is taken for, a folder: whoever mounts something there is told so.
        if not packed.tell():
            yield None
            return
        packed.seek(0)
        with tarfile.open(fileobj=packed) as tar:
            yield tar


def _copy_out(client: docker.DockerClient, probe: str, path: str, to: Path) -> bool:
    """Copy what an image has in a folder. Returns whether there is anything in it.

    Devices and pipes are left, and all of it is ours.
    """
    found = False
    # With a dot behind it a link is followed, as the engine does where it mounts a volume.
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
            # Links may lead anywhere: they are followed inside the container only.
            assert tar is not None
            tar.extract(placed, to, filter="tar")
    return found


def _inside(name: str) -> str:
    """A path in the engine's tarball of a folder, which all begin with the folder's name."""
    return name.partition("/")[2].strip("/")


def _accounts(client: docker.DockerClient, probe: str, folder: Path) -> dict[str, Path]:
    """Many programs want a name for the user that they run as, and for its group."""
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
    """The number of a user in a line of /etc/passwd, of a group in one of /etc/group."""
    return b"".join(entry.split(b":")[2:3])


def _text(client: docker.DockerClient, probe: str, path: str) -> bytes | None:
    """A small file of the image, empty where there is none; None where it is something else."""
    with _archive(client, probe, path, _ACCOUNTS) as tar:
        if tar is None:
            return b""
        member = tar.next()
        file = tar.extractfile(member) if member is not None and member.isreg() else None
        return file.read() if file is not None else None


def _relative_output(
    client: docker.DockerClient, probe: str, image: Image, mounted: Collection[str]
) -> str:
    """`output` below the image's WORKDIR, where the image has nothing there, or an empty folder."""
    path = _normal(f"{image.workdir}/output")
    if _is_below(path, ("/proc", "/sys", "/dev", "/output", *mounted)):
        return ""
    try:
        with _archive(client, probe, path, _ACCOUNTS) as tar:
            if tar is None:
                return path
            members = tar.getmembers()
    except InvalidPayload:
        return ""  # it has much there
    return path if len(members) == 1 and members[0].isdir() else ""
