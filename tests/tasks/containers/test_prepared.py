"""Folders that are copied out of an image nobody trusts, on a real engine."""

import gc
import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.containers.prepared import prepare
from tests.support.needs import need_docker
from tests.tasks.containers.engine import built

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def test_volume_behind_a_link_is_never_written_through_it(tmp_path: Path) -> None:
    need_docker()
    # A folder that the image cannot know, but for this test: such as that of other jobs' results.
    victim = Path("/tmp") / f"prefecture-test-{uuid4()}"
    dockerfile = (
        f"FROM {{base}}\nRUN mkdir -p /v/a {victim}/x && echo 1 > {victim}/x/y && echo 2 > /v/a/f "
        f"&& ln -s {victim} /v/out && ln -s /v/a /v/in\n"
        "VOLUME /v /v/a /v/in /v/out/x\nWORKDIR /v/out/work\n"
    )
    victim.mkdir()
    try:
        with built(dockerfile) as (client, image):
            prepared = prepare(client, {}, image, tmp_path / "made", (), tmp_path)
        assert list(victim.iterdir()) == []
    finally:
        shutil.rmtree(victim)
        gc.collect()
    assert set(prepared.filled) == {"/v", "/v/a", "/v/in", "/v/out/x"}
    assert prepared.filled["/v/a"] == prepared.filled["/v"] / "a"
    assert (prepared.filled["/v/in"] / "f").read_text() == "2\n"
    assert (prepared.filled["/v/out/x"] / "y").read_text() == "1\n"
    assert prepared.output == "", "its place would be behind the link too"
