"""One image and a way to run containers of it, directly and on a real engine."""

import asyncio
import io
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker

from tasks.containers import running
from tasks.containers.images.pinned import Image, find
from tasks.containers.output import Collected, collect
from tasks.containers.prepared import prepare
from tasks.containers.running import Bounds, ContainerOutcome
from tasks.containers.user_container import ContainerSpec, Owner
from tests.integration.run_container.jobs import some_image

MIB = 2**20
DOCKERFILE = """
FROM {base}
RUN mkdir -p /data/sub /app /empty /kept/output && echo seed > /data/seed \\
    && echo deep > /data/sub/deep && ln -s seed /data/link && chmod 700 /data \\
    && chmod 600 /data/seed && echo image > /kept/output/own && ln -s /kept /linked
VOLUME /data /empty /data/sub /output/cache /linked
WORKDIR /app
ENTRYPOINT ["sh", "-c"]
CMD ["echo default"]
"""


@contextmanager
def built(
    dockerfile: str = DOCKERFILE, **files: Path
) -> Generator[tuple[docker.DockerClient, Image]]:
    """An engine's client, and an image, by default with volumes and a WORKDIR; removed at the end.

    `files`: of the build context, by name.
    """
    client = docker.from_env(timeout=120)
    api: Any = client.api  # its stubs leave most of its methods untyped
    tag = f"prefecture-test:{uuid4()}"
    try:
        text = dockerfile.format(base=some_image()).encode()
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for name, file in files.items():
                tar.add(file, name)
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        context.seek(0)
        for event in api.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True):
            assert "error" not in event, event
        image = find(client, tag)
        assert image is not None
        yield client, image
        api.remove_image(tag, force=True)
    finally:
        client.close()


@dataclass
class Bench:
    """Runs containers of one image as run-container does, with folders of a test's own."""

    client: docker.DockerClient
    image: Image
    folder: Path
    owner: Owner = field(default_factory=lambda: Owner(uuid4(), uuid4(), None))

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def spec(self, command: list[str], **more: Any) -> ContainerSpec:
        """What a container is to be; `more`: fields of ContainerSpec."""
        self.output.mkdir()
        prepared = prepare(
            self.client, self.owner.labels, self.image, self.folder / "prepared", (), self.output
        )
        spec = ContainerSpec(
            image=self.image, command=command, environment={}, cpus=1, memory=64 * MIB,
            network="none", output=self.output, largest_file=MIB, prepared=prepared,
        )  # fmt: skip
        return replace(spec, **more)

    async def run(
        self, spec: ContainerSpec, seconds: float = 120, output: int = MIB
    ) -> ContainerOutcome:
        """Run it to its end."""
        bounds = Bounds(seconds, output, MIB)
        return await running.run(
            self.client, self.owner, spec, self.folder, bounds, lambda line: None
        )

    def ran(self, script: str, **more: Any) -> ContainerOutcome:
        """Run lines of shell to their end."""
        return asyncio.run(self.run(self.spec([script], **more)))

    def collected(self) -> Collected:
        """What is published of /output."""
        return collect(self.output, self.folder / "published", ("/output", "/app/output"), MIB)

    @property
    def printed(self) -> str:
        return (self.folder / "stdout.log").read_text()
