"""How the tests are run: a group in one process, and what it has started ends with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support.platform import ends_with_us, wait_until

# Two groups, each test of which notes its process, and what the group before has left.
CONFTEST = """
import contextlib, os, pathlib, pytest
from tests.support.session import groups

pytest_plugins = ["tests.support.session.groups"]
NOTES = pathlib.Path(os.environ["NOTES"])

@contextlib.contextmanager
def thing(name):
    there = NOTES / f"{name}.{os.getpid()}.there"
    there.touch()
    yield name
    there.unlink()

@pytest.fixture(scope="session")
def docker_platform():
    with thing("docker"):
        yield

@pytest.fixture(scope="session")
def process_platform():
    with thing("process"):
        yield

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    groups.put_in_groups(items)
    yield
    groups.put_in_order(items)
"""
TESTS = """
import os, pathlib, pytest
NOTES = pathlib.Path(os.environ["NOTES"])

def note(name):
    with (NOTES / name).open("a") as file:
        there = sorted(path.name.split(".")[0] for path in NOTES.glob("*.there"))
        file.write(f"{os.getpid()} {there}\\n")

@pytest.mark.parametrize("n", range(8))
def test_docker(docker_platform, n):
    note("docker")

@pytest.mark.parametrize("n", range(8))
def test_process(process_platform, n):
    note("process")

@pytest.mark.parametrize("n", range(8))
def test_alone(n):
    note("alone")
"""


def run(folder: Path, *words: str) -> dict[str, list[str]]:
    """What each test has noted, by its group."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(TESTS)
    # Of a second group that wants the same platform.
    second = folder / "tests" / "browser"
    second.mkdir(parents=True)
    (second / "test_more.py").write_text(TESTS.replace('note("docker")', 'note("second")'))
    (folder / "pytest.ini").write_text("[pytest]\n")
    tree = str(Path(__file__).parents[1])
    notes = folder / "notes"
    notes.mkdir()
    options = ("--dist", "loadgroup", "--no-loadscope-reorder", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", *options, *words],
        cwd=folder,
        env=os.environ | {"NOTES": str(notes), "PYTHONPATH": tree, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(notes.glob("*.there")), "everything has ended"
    return {path.name: path.read_text().splitlines() for path in notes.iterdir()}


def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    notes = run(tmp_path, "-n", "3")
    assert {name: len(lines) for name, lines in notes.items()} == {
        "docker": 8,
        "second": 8,
        "process": 16,
        "alone": 16,
    }
    for name in ("docker", "second"):
        assert len({line.split()[0] for line in notes[name]}) == 1, name


def test_what_a_group_has_started_ends_with_its_last_test(tmp_path: Path) -> None:
    notes = run(tmp_path)
    there = {name: {line.partition(" ")[2] for line in lines} for name, lines in notes.items()}
    assert there == {
        "docker": {"['docker']"},
        "second": {"['docker']"},
        "process": {"['process']"},
        "alone": {"[]"},
    }


def test_what_was_started_ends_when_the_tests_are_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sleeps = ends_with_us("/bin/sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 600")
    # As a process of the tests would, with itself in place of this one.
    program = (
        "import os, subprocess, sys; sys.argv[4] = str(os.getpid()); subprocess.run(sys.argv[1:])"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, *sleeps])
    wait_until(pid.exists, what="it has started")
    child = psutil.Process(int(pid.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
