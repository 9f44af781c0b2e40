"""Where a Prefecture listens."""

import psutil

from tests.support.containers import engine
from tests.support.platform import Platform, wait_until


def listens_at(process: psutil.Process) -> set[str]:
    """The addresses that it listens at; none where it has ended meanwhile."""
    try:
        connections = process.net_connections("inet")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return set()
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}


def test_on_loopback_alone(platform: Platform) -> None:
    """And, for jobs, in their closed network: see work_pools/worker/network/relay.py."""
    up = psutil.Process(platform.process.pid)

    def listening() -> set[str]:
        return {at for each in (up, *up.children(recursive=True)) for at in listens_at(each)}

    expected = {"127.0.0.1"}
    if platform.pool == "docker":
        with engine(platform) as client:
            (config,) = client.networks.get("prefecture-jobs").attrs["IPAM"]["Config"]
        expected.add(config["Gateway"])
        wait_until(lambda: config["Gateway"] in listening(), what="the worker has started")
    assert listening() == expected
