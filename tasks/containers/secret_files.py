"""Secrets of a job, as files in memory that its containers read at /run/secrets.

The engine writes to a tmpfs of a volume only while a container that runs has it: a helper container
holds it for as long as the job's containers may start. The values are in no container's
configuration, image or environment, and on no disk. With the last container the memory is freed.
"""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncGenerator, Collection, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import docker
from docker.errors import APIError
from docker.types import LogConfig, Mount
from prefect import get_client
from prefect.exceptions import ObjectNotFound

from tasks.containers import user_container
from tasks.containers.engine import api, engine_call, engine_outages
from tasks.containers.network import own_image
from tasks.containers.user_container import Owner
from tasks.contracts import SECRETS_FOLDER, SECRETS_VOLUME
from tasks.errors import InvalidPayload
from tasks.storage.in_threads import in_threads

_MOST = 2**20  # bytes of all secrets of a job
_PAGE = 4096  # bytes that each file takes at least
_MEMORY = 32 * 2**20  # bytes, of the helper


@asynccontextmanager
async def secret_files(
    client: docker.DockerClient, owner: Owner, names: Collection[str]
) -> AsyncGenerator[str]:
    """The volume with a job's secrets, by the names of their blocks; empty where it has none.

    It is removed at the end of the block. Raises InvalidPayload where the server has no such block,
    EngineUnavailable.
    """
    if not names:
        yield ""
        return
    values = {name: await read_secret(name) for name in names}
    image = await asyncio.to_thread(own_image, client, owner)
    async with in_threads(held(client, owner, values, image)) as volume:
        yield volume


async def read_secret(name: str) -> bytes:
    """The value of a Secret block. Raises InvalidPayload where the server has none."""
    try:
        async with get_client() as client:
            document = await client.read_block_document_by_name(name, "secret")
    except ObjectNotFound:
        raise InvalidPayload(
            f"payload.secrets: there is no Secret block '{name}' on the Prefect server: save it, "
            "or name another"
        ) from None
    # The stored value: the block's own get() would parse a password such as 12345 as a number.
    value: Any = document.data["value"]
    return (value if isinstance(value, str) else json.dumps(value)).encode()


@contextmanager
def held(
    client: docker.DockerClient, owner: Owner, values: Mapping[str, bytes], image: str
) -> Generator[str]:
    """A volume in memory with a file for each value, while the block runs.

    `image`: of the helper, which has `sleep`. Raises InvalidPayload, EngineUnavailable.
    """
    if sum(map(len, values.values())) > _MOST:
        raise InvalidPayload(f"payload.secrets: together they have more than {_MOST:,} bytes")
    name = f"{SECRETS_VOLUME}{owner.run}"
    size = sum(len(value) + 2 * _PAGE for value in values.values()) + _PAGE
    with engine_call("the secrets cannot be mounted"):
        api(client).create_volume(
            name,
            driver="local",
            driver_opts={"type": "tmpfs", "device": "tmpfs", "o": f"size={size},mode=0755"},
            labels=owner.labels,
        )
    try:
        holder = _hold(client, owner, name, image)
        try:
            with engine_call("the secrets cannot be mounted"):
                api(client).put_archive(holder, SECRETS_FOLDER, _packed(values))
            yield name
        finally:
            user_container.remove(client, holder)
    finally:
        _remove(client, name)


def _hold(client: docker.DockerClient, owner: Owner, volume: str, image: str) -> str:
    with engine_call("the secrets cannot be mounted"):
        host = api(client).create_host_config(
            mounts=[Mount(SECRETS_FOLDER, volume, type="volume", no_copy=True)],
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            mem_limit=_MEMORY,
            memswap_limit=_MEMORY,
            pids_limit=4,
            log_config=LogConfig(type=LogConfig.types.NONE),
            init=True,
        )
        made = api(client).create_container(
            image,
            entrypoint=["sleep", "infinity"],
            user=f"{os.getuid()}:{os.getgid()}",
            labels=owner.labels,
            name=volume,
            host_config=host,
            healthcheck={"test": ["NONE"]},
            use_config_proxy=False,
        )
    id = str(made["Id"])
    try:
        user_container.start(client, id)
    except BaseException:
        user_container.remove(client, id)
        raise
    return id


def _packed(values: Mapping[str, bytes]) -> bytes:
    """An archive of the files: readable for the user of the containers alone."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, value in values.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(value), 0o400
            info.uid, info.gid = os.getuid(), os.getgid()
            archive.addfile(info, io.BytesIO(value))
    return whole.getvalue()


def _remove(client: docker.DockerClient, volume: str) -> None:
    try:
        with engine_outages():
            api(client).remove_volume(volume)
    except APIError:
        return  # a container has it still: the supervisor removes both
