"""The commands of a user in a container, which shares no disk with the server."""

import io
import tarfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import docker

from deployments.gateway.users.tokens import Tokens
from tests.support.needs import need_docker
from tests.support.platform import Platform, job_image
from tests.support.web.gateway import gateway_up

TREE = Path(__file__).parents[3]
# What an installation has beside the packages.
METADATA = {
    "prefecture-0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: prefecture\nVersion: 0\n"
}


def packed(files: Mapping[str, bytes], *folders: Path) -> bytes:
    """An archive of files, and of folders by their names."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
        for folder in folders:
            archive.add(folder, folder.name)
    return packed.getvalue()


@contextmanager
def laptop(image: str, variables: Mapping[str, str]) -> Generator[Any]:
    """A container of the job's image, which has the libraries, with our commands and no mount."""
    client = docker.from_env()
    try:
        container: Any = client.containers.create(
            image,
            ["python", "-c", "import time; time.sleep(3600)"],
            environment={**variables, "PREFECT_API_URL": ""},
            network_mode="host",
            user="0:0",
            init=True,
        )
        try:
            container.put_archive("/opt/prefecture", packed(METADATA, TREE / "deployments"))
            container.start()
            yield container
        finally:
            container.remove(force=True)
    finally:
        client.close()


def test_files_go_there_and_back_by_the_gateway_alone(process_platform: Platform) -> None:
    need_docker()
    with gateway_up(process_platform.home, process_platform.api) as gateway:
        token = Tokens(gateway.home).add("ida")
        variables = {"PREFECTURE_URL": gateway.url, "PREFECTURE_TOKEN": token}
        with laptop(job_image(), variables) as container:

            def command(*words: str) -> str:
                python = ["python", "-m", "deployments.cli", *words]
                code, output = container.exec_run(python, workdir="/opt/prefecture")
                assert code == 0, output.decode()
                return output.decode()

            files = {"numbers/a.csv": b"1\n2\n", "numbers/b.csv": b"3\n4\n"}
            container.put_archive("/opt/prefecture", packed(files))
            payload = '{"source": "numbers", "also": ["csv"]}'
            printed = command("submit", "average-files", payload, "from-container")
            job = printed.split()[-1]
            assert "Completed" in command("watch", job)
            command("results", job, "--to", "/opt/prefecture/fetched")
            pieces, _ = container.get_archive("/opt/prefecture/fetched")
            stored = process_platform.completed(UUID(job), "from-container")
            with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
                fetched = {
                    member.name.removeprefix("fetched/"): opened.read()
                    for member in archive
                    if (opened := archive.extractfile(member)) is not None
                }
            assert fetched == {path.name: path.read_bytes() for path in stored.iterdir()}
