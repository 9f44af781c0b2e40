"""The demo, as `make demo` runs it: exit 0, a table of checked results, nothing left running."""

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.support.images import make_album
from tests.support.needs import need_docker

TREE = Path(__file__).resolve().parents[2]


@pytest.mark.thorough
@pytest.mark.parametrize("pool", ["docker", "process"])
def test_demo(pool: str, tmp_path: Path) -> None:
    if pool == "docker":
        need_docker()
    make_album(tmp_path / "photos")
    done = subprocess.run(
        ["make", "demo", f"POOL={pool}", f"INPUTS={tmp_path / 'photos'}"],
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("containers" if pool == "docker" else "processes") in done.stdout
    rows = re.findall(r"(\S+) +(high|normal|low) .*(build/demo/results/\S+)", done.stdout)
    assert {(task, queue) for task, queue, _ in rows} == {
        ("find-primes", "high"),
        ("find-primes", "normal"),
        ("find-primes", "low"),
        ("average-files", "normal"),
        ("convert-images", "high"),
        ("convert-images", "low"),
        ("compress-images", "high"),
        ("compress-images", "normal"),
        *([("run-container", "normal"), ("generate-data", "high")] if pool == "docker" else []),
    }
    for _, _, where in rows:
        assert (TREE / where / "manifest.json").is_file()
    left = subprocess.run(["pgrep", "-af", str(TREE / "build" / "demo")], capture_output=True)
    assert left.stdout == b""
    assert_key_is_beside_the_database(TREE / "build" / "demo")


def assert_key_is_beside_the_database(home: Path) -> None:
    """A copy of the database alone does not give away what the blocks in it hold."""
    file = home / "encryption.key"
    assert file.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        ((encrypted,),) = database.execute("SELECT data FROM block_document")
        ((keys,),) = database.execute("SELECT count(*) FROM configuration WHERE key LIKE '%KEY%'")
    assert keys == 0
    assert (
        "results"
        in json.loads(Fernet(file.read_bytes()).decrypt(json.loads(encrypted)))["basepath"]
    )


def test_demo_on_what_is_no_folder() -> None:
    done = subprocess.run(
        ["make", "demo", "INPUTS=/nowhere/at/all"],
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode != 0
    assert "prefecture: INPUTS=/nowhere/at/all is not a folder" in done.stderr
