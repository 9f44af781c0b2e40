"""The commands of a user on another machine, which has an address and a token and nothing else."""

import json
import os
import subprocess
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from deployments.gateway.tokens import Tokens
from tests.support.platform import BIN, PATIENCE, Platform
from tests.support.web.gateway import Gateway, gateway_up


@dataclass(frozen=True)
class Laptop:
    """A machine of a user: a home, a folder to work in, and what its shell has set."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def folder(self) -> Path:
        """Where its user is."""
        return self.home / "work"

    @property
    def environment(self) -> dict[str, str]:
        """All variables of its shell."""
        passed = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return passed | {"HOME": str(self.home)} | self.variables

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run `prefecture` with words, and with something on its standard input."""
        return subprocess.run(
            [str(BIN / "prefecture"), *words],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def done(self, *words: str, given: str = "") -> str:
        """The output of a command that must succeed."""
        ran = self.run(*words, given=given)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def refused(self, *words: str, given: str = "") -> str:
        """The line of a command that must be refused."""
        ran = self.run(*words, given=given)
        assert ran.returncode == 1, ran.stdout
        assert ran.stderr.count("\n") == 1, ran.stderr
        return ran.stderr


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    with gateway_up(process_platform.home, process_platform.api) as gateway:
        yield gateway


def laptop_of(gateway: Gateway, user: str, home: Path) -> Laptop:
    token = Tokens(gateway.home).add(user)
    (home / "work").mkdir(parents=True)
    return Laptop(home, {"PREFECTURE_URL": gateway.url, "PREFECTURE_TOKEN": token})


@pytest.fixture
def anna(gateway: Gateway, tmp_path: Path) -> Laptop:
    return laptop_of(gateway, "anna", tmp_path / "anna")


def test_a_folder_of_the_laptop_becomes_a_result_there(
    anna: Laptop, process_platform: Platform
) -> None:
    numbers = anna.folder / "numbers"
    (numbers / "more").mkdir(parents=True)
    (numbers / "one.csv").write_text("1\n2\n")
    (numbers / "more" / "two.csv").write_text("3\n4\n")
    (numbers / ".hidden").write_text("no number")
    payload = json.dumps({"source": "numbers", "also": ["csv"]})
    submitted = anna.run("submit", "average-files", payload, "means")
    assert submitted.returncode == 0, submitted.stderr
    assert "numbers is uploaded, 2 files, 8 bytes: users/anna/uploaded/numbers-" in submitted.stderr
    job = submitted.stdout.strip()
    watched = anna.done("watch", job)
    assert "Completed" in watched
    process_platform.completed(UUID(job), "means")
    assert "means.csv" in anna.done("results", job)
    anna.done("results", job, "--to", "fetched")
    stored = process_platform.results / "means" / job
    names = sorted(path.relative_to(stored) for path in stored.rglob("*") if path.is_file())
    assert Path("manifest.json") in names
    fetched = anna.folder / "fetched"
    assert sorted(p.relative_to(fetched) for p in fetched.rglob("*") if p.is_file()) == names
    for name in names:
        assert (fetched / name).read_bytes() == (stored / name).read_bytes()
