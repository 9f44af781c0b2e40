"""The image of a job: found, pulled with the user's credentials, or built; then pinned."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import docker
from prefect.logging import get_run_logger

from tasks.containers.engine import connect
from tasks.containers.images import builds, pinned
from tasks.containers.images.context import (
    Context,
    add_texts,
    is_tarball,
    refuse_archive,
    text_in_tarball,
)
from tasks.containers.images.dockerfile import check_dockerfile
from tasks.containers.images.folder import entries, folder_of
from tasks.containers.images.ignored import IGNORE_FILES, Ignored, read
from tasks.containers.images.pinned import Image, Login
from tasks.containers.images.registry import load_login
from tasks.contracts import BUILT_REPOSITORY, IMAGE_LABEL, Build, Container
from tasks.errors import JobError, RegistryUnavailable
from tasks.runtime.compute_task import Job
from tasks.runtime.inputs import find_inputs
from tasks.runtime.retries import with_retries
from tasks.settings import get_settings
from tasks.storage.inputs.local import InputFile

_BUILD_MEMORY = 2 * 2**30  # bytes for each step of a build, swap included
_BUILD_SECONDS = 3600.0
T = TypeVar("T")


@asynccontextmanager
async def provide(
    client: docker.DockerClient, payload: Container, job: Job, network: str
) -> AsyncGenerator[Image]:
    """The image of a job, the same for every attempt.

    A built image is removed at the end, unless the job will be retried; the supervisor removes
    images that attempts leave. Raises InvalidPayload, UnreadableInput, RegistryUnavailable,
    EngineUnavailable.
    """
    if "build" not in payload.model_fields_set:
        image = await _fetch(client, payload, job)
        await _pin(image, job)
        yield image
        return
    tag = f"{BUILT_REPOSITORY}:{job.id}"
    try:
        image = await asyncio.to_thread(pinned.find, client, tag)  # of an earlier attempt
        if image is None:
            await _build(payload, job, tag, network)
            image = await asyncio.to_thread(pinned.find, client, tag)
        assert image is not None
        await _pin(image, job)
        yield image
    except JobError:
        await asyncio.to_thread(pinned.remove, client, tag)
        raise
    await asyncio.to_thread(pinned.remove, client, tag)


async def _fetch(client: docker.DockerClient, payload: Container, job: Job) -> Image:
    # The image of the first attempt: the name may stand for another one by now.
    name = str(job.labels.get(IMAGE_LABEL, payload.image))
    image = await asyncio.to_thread(pinned.find, client, name)
    if image is not None:
        return image
    login = await _login(payload)
    get_run_logger().info("pulling %s", name)
    return await _with_retries(f"pull {name}", lambda: pinned.pull(client, name, login))


async def _login(payload: Container) -> Login | None:
    if "registry_credentials" not in payload.model_fields_set:
        return None
    return await load_login(payload.registry_credentials)


async def _with_retries(doing: str, work: Callable[[], T]) -> T:
    """Run the blocking function `work`; retry for a minute where a registry fails transiently."""
    try:
        return await asyncio.to_thread(work)
    except RegistryUnavailable as error:
        get_run_logger().warning("%s: retrying", error)
    return await with_retries(doing, work)


async def _pin(image: Image, job: Job) -> None:
    pinned = job.labels.get(IMAGE_LABEL)
    if pinned is None:
        # Later attempts inherit the labels of this one.
        await job.label(IMAGE_LABEL, image.reference)
    elif pinned not in (image.reference, image.id):
        get_run_logger().warning(
            "another host has built a new image, %s; the first attempt had %s",
            image.id,
            pinned,
        )
    get_run_logger().info("image %s", image.reference)


async def _build(payload: Container, job: Job, tag: str, network: str) -> None:
    path = job.stage.scratch / "context.tar"
    dockerfile = await write_context(payload.build, path, job.stage.scratch)
    login = await _login(payload)
    show = get_run_logger().info
    with (job.stage.files / "build.log").open("w") as log:

        def say(text: str) -> None:
            log.write(text)
            if text.startswith("Step "):
                show("%s", text.strip())

        def build() -> None:
            with connect(timeout=_BUILD_SECONDS) as own:
                builds.build(
                    own,
                    path,
                    tag,
                    memory=_BUILD_MEMORY,
                    network=network,
                    seconds=_BUILD_SECONDS,
                    say=say,
                    dockerfile=dockerfile,
                    args=payload.build.args,
                    target=payload.build.target if "target" in given else "",
                    login=login,
                )

        given = payload.build.model_fields_set
        await _with_retries("build the image", build)
    path.unlink()


async def write_context(build: Build, path: Path, scratch: Path) -> str:
    """Write the tarball of a build's context to `path`. Returns the text of the Dockerfile.

    Raises InvalidPayload, UnreadableInput, SourceNotFound.
    """
    with Context(path) as context:
        add_texts(context, build)
        if "context" in build.model_fields_set:
            folder = folder_of(build.context, get_settings().inputs)
            if folder is not None:
                await asyncio.to_thread(_add_folder, context, build, folder)
            else:
                await _add_files(context, build, scratch)
        context.use_lower_case()
    return check_dockerfile(context.dockerfile, context.in_folders)


def _add_folder(context: Context, build: Build, folder: Path) -> None:
    texts = {name: folder / name for name in IGNORE_FILES if (folder / name).is_file()}
    context.ignored = _ignored(build, {name: path.read_bytes() for name, path in texts.items()})
    for entry in entries(folder, context.ignored):
        context.add_entry(entry)


async def _add_files(context: Context, build: Build, scratch: Path) -> None:
    files = await find_inputs(build.context)
    if len(files) == 1 and is_tarball(files[0].name):
        async with files[0].local(scratch) as here:
            await asyncio.to_thread(_add_tarball, context, build, files[0].name, here)
        return
    if len(files) == 1 and context.dockerfile is None:
        # Beside a Dockerfile of the payload it is a file like any other, for COPY.
        refuse_archive(files[0].name)
    context.ignored = _ignored(build, await _texts(files, scratch))
    for file in files:
        if not context.ignored.leaves_out(file.name) or file.name in context.always:
            async with file.local(scratch) as here:
                await asyncio.to_thread(context.add_file, file.name, here)


def _add_tarball(context: Context, build: Build, name: str, path: Path) -> None:
    found = {wanted: text_in_tarball(name, path, wanted) for wanted in IGNORE_FILES}
    context.ignored = _ignored(build, {k: data for k, data in found.items() if data is not None})
    context.add_tarball(name, path)


async def _texts(files: list[InputFile], scratch: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file in files:
        if file.name in IGNORE_FILES:
            async with file.local(scratch) as here:
                found[file.name] = await asyncio.to_thread(here.read_bytes)
    return found


def _ignored(build: Build, found: dict[str, bytes]) -> Ignored:
    """The patterns of the first ignore file that exists; the payload's files win over others."""
    texts = {name: read(data) for name, data in found.items()} | build.files
    return Ignored(next((texts[name] for name in IGNORE_FILES if name in texts), ""))
