"""What other users of the machine can read in a home whose folder is open to them."""

from collections.abc import Generator
from pathlib import Path

from tests.support.platform import Platform

_OTHERS = 0o077
# Folders whose writers choose the modes, and files without anything of a user's or a server's.
_OPEN = {"inputs", "results", "up.lock", "notifier.lock", "workers.json", "api_url"}
_OF_THE_TESTS = {"client", "outside", "up.out"}


def readable(folder: Path) -> Generator[Path]:
    """The files below a folder that somebody else may read, or write."""
    for path in folder.iterdir():
        if path.name in _OPEN | _OF_THE_TESTS or not path.lstat().st_mode & _OTHERS:
            continue
        if path.is_dir():
            yield from readable(path)
        else:
            yield path


def test_nothing_but_inputs_and_results(process_platform: Platform) -> None:
    job = process_platform.submit_job("find-primes/normal", {"upper_bound": 100}, "modes")
    process_platform.completed(job, "modes")
    assert (process_platform.home / "prefect" / "prefect.db").exists()
    assert (process_platform.home / "logs" / "server.log").exists()
    assert (process_platform.home / "prefecture.db").exists()
    assert list(readable(process_platform.home)) == []
