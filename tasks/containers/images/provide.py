"""The image for a job: found, pulled with the user's credentials, or built; then pinned."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import docker
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger

from tasks.containers.engine import connect
from tasks.containers.images import builds, pinned
from tasks.containers.images.context import Context, add_texts, check_dockerfile, is_tarball
from tasks.containers.images.pinned import Image
from tasks.containers.images.registry import load_login
from tasks.contracts import BUILT_REPOSITORY, IMAGE_LABEL, Container
from tasks.errors import JobError
from tasks.runtime.compute_task import Job
from tasks.runtime.inputs import find_inputs

_BUILD_MEMORY = 2 * 2**30  # bytes that each step of a build may use, swap included
_BUILD_SECONDS = 3600.0


@asynccontextmanager
async def provide(
    client: docker.DockerClient, payload: Container, job: Job, network: str
) -> AsyncGenerator[Image]:
    """The image of a job, the same at every attempt.

    One that was built is removed at the end, unless the job is to be tried again; what is left of
    others, the supervisor removes. Raises InvalidPayload, UnreadableInput, EngineUnavailable.
    """
    if "build" not in payload.model_fields_set:
        image = await _fetch(client, payload, job)
        await _pin(image, job)
        yield image
        return
    tag = f"{BUILT_REPOSITORY}:{job.id}"
    try:
        image = await asyncio.to_thread(pinned.find, client, tag)  # of an attempt before
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
    # What the first attempt found, whatever the name stands for by now.
    name = str(job.labels.get(IMAGE_LABEL, payload.image))
    image = await asyncio.to_thread(pinned.find, client, name)
    if image is not None:
        return image
    login = None
    if "registry_credentials" in payload.model_fields_set:
        login = await load_login(payload.registry_credentials)
    get_run_logger().info("pulling %s", name)
    return await asyncio.to_thread(pinned.pull, client, name, login)


async def _pin(image: Image, job: Job) -> None:
    pinned = job.labels.get(IMAGE_LABEL)
    if pinned is None:
        # Later attempts inherit the labels of this one.
        async with get_client() as prefect:
            await prefect.update_flow_run_labels(job.flow_run, {IMAGE_LABEL: image.reference})
    elif pinned not in (image.reference, image.id):
        get_run_logger().warning(
            "another host has built the image again: %s, where the first attempt had %s",
            image.id,
            pinned,
        )
    get_run_logger().info("image %s", image.reference)


async def _build(payload: Container, job: Job, tag: str, network: str) -> None:
    path = job.stage.scratch / "context.tar"
    await _write_context(payload, path, job.stage.scratch)
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
                )

        await asyncio.to_thread(build)
    path.unlink()


async def _write_context(payload: Container, path: Path, scratch: Path) -> None:
    with Context(path) as context:
        add_texts(context, payload.build)
        if "context" in payload.build.model_fields_set:
            files = await find_inputs(payload.build.context)
            apart = len(files) == 1 and is_tarball(files[0].name)
            for file in files:
                async with file.local(scratch) as here:
                    add = context.add_tarball if apart else context.add_file
                    await asyncio.to_thread(add, file.name, here)
    check_dockerfile(context.dockerfile)
