"""An image of the machine's Docker engine, given to another engine without a copy of its files."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker

_STORE = Path("image") / "overlay2"
_DRIVER = "overlay2"
_LINK = """set -e
mount --bind "$1" "$2"
from=$3 to=$4
shift 4
for layer; do cp --archive --link "$from/$layer" "$to/$layer"; done
"""


def share_image(name: str, data: Path) -> bool:
    """Put an image into the data folder of an engine that is to be started.

    Its layers become hard links: `docker save` and `docker load` read, hash and write a gigabyte,
    which keeps a core busy for a minute. The layout is that of Docker's `overlay2`. Returns whether
    it was done: it is not where the engine keeps its layers otherwise, or in another file system.
    """
    client = docker.from_env()
    try:
        info: dict[str, Any] = client.info()  # pyright: ignore[reportUnknownMemberType]
        image: dict[str, Any] = client.images.get(name).attrs
    finally:
        client.close()
    root, layers = Path(info["DockerRootDir"]), list(_chain(image["RootFS"]["Layers"]))
    if info["Driver"] != _DRIVER or not _link_layers(root, data, layers):
        return False
    _, _, digest = str(image["Id"]).partition(":")
    for part in (
        *(f"layerdb/sha256/{layer}" for layer in layers),
        *(f"imagedb/{part}/sha256/{digest}" for part in ("content", "metadata")),
    ):
        _copy(root / _STORE / part, data / _STORE / part)
    repository, _, _ = name.rpartition(":")
    known = {"Repositories": {repository: {name: image["Id"]}}}
    (data / _STORE / "repositories.json").write_text(json.dumps(known))
    return True


def _chain(layers: Sequence[str]) -> Iterator[str]:
    """The name of each layer together with those below it (OCI image specification, ChainID)."""
    chain = ""
    for layer in layers:
        both = f"{chain} {layer}".encode()
        chain = f"sha256:{hashlib.sha256(both).hexdigest()}" if chain else layer
        yield chain.partition(":")[2]


def _link_layers(root: Path, data: Path, layers: Sequence[str]) -> bool:
    (there, inside), (_, here) = _mount_of(data.parent), _mount_of(root)
    if inside != "/":
        return False
    short = data / _DRIVER / "l"
    short.mkdir(parents=True)
    linked = [
        (root / _STORE / "layerdb" / "sha256" / layer / "cache-id").read_text() for layer in layers
    ]
    # The engine has mounted its folder onto itself, and no link leads from one mount to another: so
    # both are looked at where their file system is mounted once more.
    once_more = data / "filesystem"
    once_more.mkdir()
    seen = once_more / data.resolve().relative_to(there)
    words = [
        str(there),
        str(once_more),
        str(once_more / here.lstrip("/") / _DRIVER),
        str(seen / _DRIVER),
    ]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _LINK, "sh", *words, *linked],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(data)
        return False
    once_more.rmdir()
    for folder in linked:
        name = (data / _DRIVER / folder / "link").read_text()
        (short / name).symlink_to(Path("..") / folder / "diff")
    return True


def _mount_of(path: Path) -> tuple[Path, str]:
    """Where the file system that holds a folder is mounted, and which of its folders is there."""
    find = ["findmnt", "--noheadings", "--output", "TARGET,FSROOT", "--target", str(path)]
    there, inside = subprocess.run(find, capture_output=True, text=True, check=True).stdout.split()
    return Path(there), inside


def _copy(here: Path, there: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        shutil.copytree(here, there)
    elif here.exists():
        shutil.copyfile(here, there)
