"""Where a Prefecture listens."""

import psutil

from tests.support.platform import Platform


def test_on_loopback_alone(platform: Platform) -> None:
    up = psutil.Process(platform.process.pid)
    listening = {
        connection.laddr.ip
        for process in (up, *up.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
