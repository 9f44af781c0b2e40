"""Files through the gateway, beside nginx on the same disk and over the same loopback."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx

from benchmarks.suite.report import OURS, Row
from tests.support.platform import free_port, wait_until
from tests.support.web.gateway import Gateway

_PIECE = 2**20
_SIZE = 2**30  # bytes of the file
_TARGET = {"nginx": 0.8}
_NGINX = """
daemon off; user root; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{}}
http {{
    access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {home}/parts;
    server {{
        listen 127.0.0.1:{port};
        location /down/ {{ alias {result}/; }}
        location /up/ {{ alias {home}/up/; dav_methods PUT; }}
    }}
}}
"""


def transfers(
    home: Path, gateway: Gateway, user: httpx.Client, job: UUID, result: Path, rounds: int
) -> list[Row]:
    """Megabytes a second up and down, and the gateway's memory. `result`: the folder of a job's.

    Its file is made larger: what it holds does not count. Without nginx there is no peer.
    """
    file = next(path for path in result.iterdir() if path.name != "manifest.json")
    _grow(file)
    source = home / "source"
    shutil.copyfile(file, source)
    ours = ["-H", f"Authorization: {user.headers['Authorization']}"]
    down = f"{gateway.url}/v1/jobs/{job}/result/{file.name}"
    up = f"{gateway.url}/v1/inputs/bench?overwrite=true"
    speeds: dict[str, dict[str, list[float]]] = {"down": {OURS: []}, "up": {OURS: []}}
    with _nginx(home / "nginx", result) as peer:
        for _ in range(rounds):
            speeds["down"][OURS].append(_curl(*ours, down))
            speeds["up"][OURS].append(_curl(*ours, "-T", str(source), up))
            if peer:
                theirs = speeds["down"].setdefault("nginx", [])
                theirs.append(_curl(f"{peer}/down/{file.name}"))
                theirs = speeds["up"].setdefault("nginx", [])
                theirs.append(_curl("-T", str(source), f"{peer}/up/bench"))
    target = _TARGET if shutil.which("nginx") else {}
    rows = [
        Row(f"k {way[0]}", f"1 GiB {way}: target 0.8 times nginx", "MB/s", figures, "more", target)
        for way, figures in speeds.items()
    ]
    return [*rows, Row("k m", "most memory of the gateway", "MB", {OURS: [_peak(gateway)]})]


def _grow(file: Path) -> None:
    file.chmod(0o600)
    with file.open("wb") as opened:
        for _ in range(_SIZE // _PIECE):
            opened.write(os.urandom(_PIECE))


@contextmanager
def _nginx(home: Path, result: Path) -> Generator[str]:
    """The address of an nginx, empty where it is not installed (Debian: nginx-core)."""
    if not shutil.which("nginx"):
        yield ""
        return
    port = free_port()
    (home / "up").mkdir(parents=True)
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, port=port, result=result))
    with subprocess.Popen(["nginx", "-c", str(config)]) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: httpx.get(f"{address}/down/manifest.json").is_success, what="nginx")
        try:
            yield address
        finally:
            process.terminate()


def _curl(*words: str) -> float:
    """Megabytes a second of a transfer by curl, which costs less than a client in Python."""
    command = ["curl", "-sS", "--fail", "-o", os.devnull, "-w", "%{speed_download} %{speed_upload}"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    return max(float(speed) for speed in done.stdout.split()) / 1e6


def _peak(gateway: Gateway) -> float:
    """Megabytes that the gateway has had in memory at once."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6
