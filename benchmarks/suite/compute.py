"""g: the work of the compute tasks, compared with other tools, as whole processes."""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.average_files import make_files
from benchmarks.image_libraries import RATIO, make_photo
from benchmarks.suite.peers import floor, found
from benchmarks.suite.report import OURS, Row
from benchmarks.suite.server import Server
from benchmarks.suite.sides import TREE
from tests.support.platform import platform_up

_PHOTOS, _WIDTH, _HEIGHT = 8, 3000, 2000
_BOUND = 10**9
_FILES, _NUMBERS = 40, 1_000_000
_THREADS = 2

_COMPRESS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
{imports}
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
with ThreadPoolExecutor({threads}) as pool:
    list(pool.map(lambda path: {call}, sorted(folder.glob("*.jpg"))))
"""
_OURS_COMPRESS = _COMPRESS.format(
    threads=_THREADS,
    imports="from tasks.images.transform import compress",
    call=f"compress(path, path.name, out / path.name, {RATIO})",
)
_PILLOW_COMPRESS = _COMPRESS.format(
    threads=_THREADS,
    imports="from benchmarks.image_libraries import with_pillow",
    call="with_pillow(path, out / path.name)",
)
_OURS_PRIMES = f"""
import sys
from pathlib import Path
from tasks.primes import sieve
path = Path(sys.argv[1]) / "primes.parquet"
sieve.write_primes({_BOUND}, path, lambda fraction: None, threads={_THREADS})
"""
# The usual sieve in numpy, with its result saved.
_NUMPY_PRIMES = f"""
import sys
import numpy as np
n = {_BOUND}
sieve = np.ones(n // 2, dtype=bool)
for i in range(3, int(n ** 0.5) + 1, 2):
    if sieve[i // 2]:
        sieve[i * i // 2 :: i] = False
np.save(sys.argv[1] + "/primes.npy", np.r_[2, 2 * np.nonzero(sieve)[0][1:] + 1])
"""


def pictures(home: Path, rounds: int) -> list[Row]:
    """compress-images: bytes read a second, and peak memory, at nearly equal output."""
    photos = home / "photos"
    photos.mkdir(parents=True)
    for seed in range(_PHOTOS):
        make_photo(photos / f"{seed}.jpg", _WIDTH, _HEIGHT, seed)
    sources = sorted(photos.glob("*.jpg"))
    size = sum(path.stat().st_size for path in sources)
    extent = int(RATIO * size / len(sources))
    mogrify = (found("mogrify"), "-define", f"jpeg:extent={extent}", "-path")
    commands = {
        OURS: (sys.executable, "-c", _OURS_COMPRESS, str(photos), "{out}"),
        "mogrify": (*mogrify, "{out}", *map(str, sources)),
        "Pillow": (sys.executable, "-c", _PILLOW_COMPRESS, str(photos), "{out}"),
    }
    seconds, peaks, written = _in_turn(home, commands, rounds)
    for who, bytes_out in written.items():
        share = bytes_out / size
        assert 0.75 * RATIO <= share <= 1.02 * RATIO, f"{who} wrote {share:.2f} of the bytes"
    rates = {who: [size / one / 1e6 for one in found] for who, found in seconds.items()}
    return [
        Row("g", f"compress-images, {_PHOTOS} photos", "MB/s", rates, "more"),
        Row("g", "compress-images, peak memory", "MiB", peaks),
    ]


def primes(home: Path, rounds: int) -> list[Row]:
    """find-primes: seconds and peak memory of processes that write all primes into a file."""
    commands = {
        OURS: (sys.executable, "-c", _OURS_PRIMES, "{out}"),
        "numpy": (sys.executable, "-c", _NUMPY_PRIMES, "{out}"),
        # As text, its only output format.
        "primesieve": ("sh", "-c", f"{found('primesieve')} {_BOUND} -p > {{out}}/primes.txt"),
    }
    seconds, peaks, _ = _in_turn(home, commands, rounds)
    return [
        Row("g", f"find-primes up to {_BOUND:,}", "s", seconds),
        Row("g", "find-primes, peak memory", "MiB", peaks),
    ]


def whole(home: Path, rounds: int) -> list[Row]:
    """average-files: a job through the queue, against the same work in a process."""
    script = str(TREE / "benchmarks" / "average_files.py")
    seconds: dict[str, list[float]] = defaultdict(list)
    with platform_up(home, "docker") as up:
        server = Server(up.api)
        template = server.ask("GET", "/work_pools/docker")["base_job_template"]
        bare = floor("docker", template["job_configuration"]["image"])
        make_files(up.inputs, _FILES, _NUMBERS, ("csv",))
        folder = up.inputs / "csv"
        kernel = (sys.executable, script, "--measure", "csv", "ours", str(folder))
        parameters = {"payload": {"source": "csv"}, "results_directory": "bench"}
        deployment = up.deployment("average-files/high")
        for turn in range(rounds + 1):
            began = time.time()
            # Two cores, like the kernel: the default of a job is one.
            run = server.make(deployment, parameters, nano_cpus=2 * 10**9)
            took = server.ended([run])[0].ended - began
            alone, _ = _measured(kernel)
            if turn:  # the first is a warm-up
                seconds[OURS].append(took)
                seconds["kernel, a process"].append(alone)
                seconds["kernel and floor"].append(alone + bare.start())
    what = f"average-files, {_FILES} csv, through the queue"
    return [Row("g", what, "s", seconds, target={"kernel and floor": 1.0})]


def averages(home: Path, rounds: int) -> list[Row]:
    """average-files: throughput and peak memory, by benchmarks/average_files.py."""
    path = home / "averages.json"
    script = str(TREE / "benchmarks" / "average_files.py")
    command = (sys.executable, script, "--rounds", str(rounds), "--json", str(path))
    subprocess.run(command, check=True, cwd=TREE, stdout=subprocess.DEVNULL)
    rows: list[Row] = []
    report = json.loads(path.read_text())
    for format in dict.fromkeys(one["format"] for one in report):
        of = [one for one in report if one["format"] == format]
        names = {one["who"]: OURS if one["who"] == "ours" else one["who"] for one in of}
        rates = {names[one["who"]]: [*one["spread"], one["rate"]] for one in of}
        peaks = {names[one["who"]]: [one["peak"]] for one in of}
        rows.append(Row("g", f"average-files, {format}", "MB/s", rates, "more"))
        rows.append(Row("g", f"average-files, {format}, peak memory", "MiB", peaks))
    return rows


def _in_turn(
    home: Path, commands: Mapping[str, Sequence[str]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, int]]:
    """Measure processes that take turns: seconds, peak MiB and bytes written of each."""
    seconds: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[float]] = defaultdict(list)
    written: dict[str, int] = {}
    for turn in range(rounds + 1):
        for who, command in commands.items():
            out = home / f"{who}-{turn}"
            out.mkdir(parents=True)
            words = [word.replace("{out}", str(out)) for word in command]
            took, peak = _measured(words)
            if turn:  # the first is a warm-up
                seconds[who].append(took)
                peaks[who].append(peak)
            written[who] = sum(path.stat().st_size for path in out.iterdir())
    return seconds, peaks, written


def _measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds from start to end, and the largest resident size of one of its processes in MiB."""
    # Start it from a small process: the peak of a fork includes its parent's memory.
    program = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        (sys.executable, "-S", "-c", program, *command),
        check=True, capture_output=True, text=True, cwd=TREE,
    )  # fmt: skip
    return time.perf_counter() - began, int(done.stdout.split()[-1]) / 1024
