"""Where a Prefecture listens."""

import psutil

from tests.support.platform import Platform


def listens_at(process: psutil.Process) -> set[str]:
    """The addresses that it listens at; none where it has ended meanwhile."""
    try:
        connections = process.net_connections("inet")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return set()
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}


def test_on_loopback_alone(platform: Platform) -> None:
    up = psutil.Process(platform.process.pid)
    processes = (up, *up.children(recursive=True))
    assert set().union(*map(listens_at, processes)) == {"127.0.0.1"}
