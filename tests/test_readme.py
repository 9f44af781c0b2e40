"""Every command and example of the README, run as written against a running Prefecture."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.images import make_album
from tests.support.platform import BIN, Platform

TREE = Path(__file__).resolve().parents[1]
README = (TREE / "README.md").read_text()
# Run elsewhere: `make test` is what runs this, the others have tests of their own.
ELSEWHERE = ["make demo\nmake test\n", 'export PATH="$PWD/.venv/bin:$PATH"\nprefecture up\n']


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def reader(docker_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, and the photographs that the README speaks of."""
    photos = docker_platform.inputs / "photos"
    if not photos.exists():
        make_album(photos)
    return tmp_path_factory.mktemp("reader")


def run(platform: Platform, folder: Path, program: list[str], text: str, **more: str) -> str:
    """Run an example with the one thing changed that a test must: the port."""
    text = text.replace("127.0.0.1:4200", f"127.0.0.1:{platform.port}")
    environment: dict[str, Any] = platform.environment | more
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    done = subprocess.run(
        [*program, text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_shell_examples(docker_platform: Platform, reader: Path) -> None:
    examples = [block for block in blocks("sh") if block not in ELSEWHERE]
    assert len(examples) == len(blocks("sh")) - len(ELSEWHERE)
    wait = 'until prefecture results "$JOB" > result 2> error; do ! grep -q Failed error; done\n'
    results = next(i for i, block in enumerate(examples) if block.startswith("prefecture results"))
    # A reader looks at a result once the job is done.
    examples[results] = wait + examples[results]
    shown = run(docker_platform, reader, ["bash", "-euo", "pipefail", "-c"], "".join(examples))
    assert "all checked" in shown
    assert (reader / "holiday-photos" / "manifest.json").is_file()
    assert (reader / "holiday-photos" / "a.jpg").is_file()


def test_python_examples(docker_platform: Platform, reader: Path) -> None:
    for block in blocks("python"):
        program = [str(BIN / "python"), "-W", "error", "-c"]
        # As the reader has exported it in the shell.
        shown = run(docker_platform, reader, program, block, PREFECT_API_URL=docker_platform.api)
        assert shown.startswith("Completed")


def test_the_table_lists_every_compute_task() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| `", README, re.MULTILINE)
    declared = yaml.safe_load((TREE / "prefect.yaml").read_text())["deployments"]
    flows = {Path(entry["entrypoint"].split(":")[0]).stem.replace("_", "-") for entry in declared}
    assert sorted(listed) == sorted(flows)


def test_every_command_is_documented() -> None:
    shown = subprocess.run(
        [str(BIN / "prefecture"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^│ ([a-z]+) ", shown, re.MULTILINE)
    assert {"up", "apply", "status", "submit", "results", "image", "demo"} <= set(commands)
    for command in commands:
        assert f"`prefecture {command}" in README


def test_every_setting_is_documented() -> None:
    from tasks.settings import Settings

    for name in Settings.model_fields:
        assert f"`PREFECTURE_{name.upper()}`" in README
