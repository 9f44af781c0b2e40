"""Each compute task from each way in, on each pool, to a checked result."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prefect import get_client
from prefect.deployments import arun_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.support.platform import Platform, wait_until
from tests.support.session.tiers import first_of, thorough

PRIMES_TO_100 = 25  # OEIS A000720


def by_rest(platform: Platform, task: str, payload: Mapping[str, object], directory: str) -> UUID:
    return platform.submit_job(f"{task}/normal", payload, directory)


def by_cli(platform: Platform, task: str, payload: Mapping[str, object], directory: str) -> UUID:
    done = platform.command(
        *("prefect", "deployment", "run", f"{task}/high", "--tag", "user:anna"),
        *("--param", f"payload={json.dumps(payload)}"),
        *("--param", f"results_directory={json.dumps(directory)}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "UUID" in line)
    return UUID(line.split()[-1])


def by_prefecture(
    platform: Platform, task: str, payload: Mapping[str, object], directory: str
) -> UUID:
    done = platform.command(
        "prefecture", "submit", task, json.dumps(payload), directory, "--queue", "low"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return UUID(done.stdout.strip())


async def by_python(
    platform: Platform, task: str, payload: Mapping[str, object], directory: str
) -> UUID:
    with temporary_settings({PREFECT_API_URL: platform.api}):
        async with get_client() as client:
            run = await arun_deployment(
                f"{task}/normal",
                parameters={"payload": dict(payload), "results_directory": directory},
                timeout=0,
                client=client,
            )
    return run.id


WAYS = ["rest", "cli", "prefecture", "python"]


async def start(
    way: str, platform: Platform, task: str, payload: Mapping[str, object], directory: str
) -> UUID:
    if way == "python":
        return await by_python(platform, task, payload, directory)
    ways = {"rest": by_rest, "cli": by_cli, "prefecture": by_prefecture}
    return ways[way](platform, task, payload, directory)


@pytest.mark.parametrize("way", first_of("cli", WAYS))
async def test_find_primes(platform: Platform, way: str) -> None:
    directory = f"primes/{way}"
    job = await start(way, platform, "find-primes", {"upper_bound": 100}, directory)
    folder = platform.completed(job, directory)
    primes = cast(Any, pq).read_table(folder / "primes.parquet")["prime"].to_pylist()
    assert len(primes) == PRIMES_TO_100
    assert primes[-1] == 97
    assert platform.manifest(job, directory)["summary"]["count"] == PRIMES_TO_100


@pytest.mark.parametrize("way", first_of("prefecture", WAYS))
async def test_compress_images(platform: Platform, way: str) -> None:
    directory = f"compressed/{way}"
    payload = {"source": "album", "ratio": 0.5}
    job = await start(way, platform, "compress-images", payload, directory)
    folder = platform.completed(job, directory)
    good = ["a.jpg", "b.jpg", "c.png", "d.webp", "sub/e.jpg"]
    assert published(folder) == good
    for name in good:
        before, after = platform.inputs / "album" / name, folder / name
        assert after.stat().st_size <= 0.5 * before.stat().st_size
        with Image.open(before) as old, Image.open(after) as new:
            assert (new.format, new.size) == (old.format, old.size)
    assert broken(platform, job, directory) == ["text.jpg", "truncated.jpg"]


@pytest.mark.parametrize("way", first_of("python", WAYS))
async def test_convert_images(platform: Platform, way: str) -> None:
    directory = f"converted/{way}"
    payload = {"source": "album/**/*.jpg", "format": "webp"}
    job = await start(way, platform, "convert-images", payload, directory)
    folder = platform.completed(job, directory)
    assert published(folder) == ["a.webp", "b.webp", "sub/e.webp"]
    with Image.open(folder / "sub" / "e.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (500, 500))
    assert broken(platform, job, directory) == ["text.jpg", "truncated.jpg"]


@pytest.mark.parametrize("way", first_of("rest", WAYS))
async def test_average_files(platform: Platform, way: str) -> None:
    directory = f"averages/{way}"
    rows = [np.random.default_rng(n).standard_normal(5_000) for n in range(6)]
    folder = platform.inputs / "numbers" / way
    folder.mkdir(parents=True)
    for number, row in enumerate(rows):
        np.save(folder / f"{number}.npy", row)
    payload = {"source": f"numbers/{way}/*.npy", "also": ["csv", "npy"]}
    job = await start(way, platform, "average-files", payload, directory)
    result = platform.completed(job, directory)
    exact = [float(sum(map(Fraction, column)) / 6) for column in np.transpose(rows).tolist()]
    table = cast(Any, pq).read_table(result / "means.parquet")
    assert table["mean"].to_pylist() == exact
    assert np.load(result / "means.npy").tolist() == exact
    header, *lines = (result / "means.csv").read_text().splitlines()
    assert (header, [float(line) for line in lines]) == ("mean", exact)
    summary = platform.manifest(job, directory)["summary"]
    bytes_read = sum(path.stat().st_size for path in folder.iterdir())
    assert (summary["files"], summary["numbers"], summary["bytes"]) == (6, 5_000, bytes_read)


@pytest.mark.parametrize("format", first_of("csv", ["csv", "npy", "parquet"]))
def test_average_of_generated_files(platform: Platform, format: str) -> None:
    wanted = {"files": 5, "numbers": 2_000, "seed": 3, "format": format}
    job = platform.submit_job("average-files/high", {"generate": wanted}, "generated")
    result = platform.completed(job, "generated")
    assert published(result) == ["means.parquet"]
    means = cast(Any, pq).read_table(result / "means.parquet")["mean"].to_pylist()
    rows = [np.random.Generator(np.random.PCG64([3, n])).random(2_000) for n in range(5)]
    np.testing.assert_allclose(means, np.mean(rows, axis=0), rtol=1e-14)


@pytest.mark.parametrize("partition", [thorough(None), thorough(1), 3])
def test_average_by_several_workers(platform: Platform, partition: int | None) -> None:
    wanted = {"files": 7, "numbers": 40_000, "seed": 5}
    payload: dict[str, Any] = {"generate": wanted, "workers": 3}
    if partition is not None:
        payload |= {"partition": partition, "keep_sums": True}
    alone = platform.submit_job("average-files/high", {"generate": wanted}, "alone")
    shared = platform.submit_job("average-files/high", payload, "shared")
    (one, other) = (platform.completed(alone, "alone"), platform.completed(shared, "shared"))
    assert (one / "means.parquet").read_bytes() == (other / "means.parquet").read_bytes()
    summary = platform.manifest(shared, "shared")["summary"]
    # Where it is chosen by cost, a busy machine may find such a little work worth dividing:
    # tests/tasks/averages/test_partition.py has the choice itself.
    runs = summary["runs"] if partition is None else -(-7 // partition)
    assert (summary["files"], summary["runs"], summary["phases"]) == (7, runs, 1 + (runs > 1))
    assert runs in range(1, 8)
    assert (other / "sums").is_dir() == (partition is not None)
    assert not list((platform.results / ".staging").glob(f"{shared}.*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n2\nthree\n", "b.csv, line 3: 'three' is not a number: write one there"),
        ("1\n2\n", "b.csv holds 2 numbers, and a.csv 3: give every file as many"),
    ],
)
def test_files_that_cannot_be_averaged(process_platform: Platform, text: str, said: str) -> None:
    folder = process_platform.inputs / "bad-numbers"
    folder.mkdir(exist_ok=True)
    (folder / "a.csv").write_text("1\n2\n3\n")
    (folder / "b.csv").write_text(text)
    job = process_platform.submit_job("average-files/high", {"source": "bad-numbers"}, "averages")
    assert process_platform.ended(job)["state"]["message"] == said
    assert not (process_platform.results / "averages" / str(job)).exists()


def test_progress_and_logs_reach_the_ui(platform: Platform) -> None:
    payload = {"source": "album", "ratio": 0.5}
    job = platform.submit_job("compress-images/high", payload, "listed")
    platform.completed(job, "listed")
    listing = platform.artifacts(job, "markdown")[0]["data"]
    assert str(platform.results / "listed" / str(job)) in listing
    for name in ("a.jpg", "sub/e.jpg", "truncated.jpg", "text.jpg", "data:image/"):
        assert name in listing


def test_a_job_sends_no_heartbeat(process_platform: Platform) -> None:
    job = process_platform.submit_job("find-primes/high", {"upper_bound": 10}, "beats")
    process_platform.completed(job, "beats")

    def events(name: str) -> list[dict[str, Any]]:
        of_run = {"id": [f"prefect.flow-run.{job}"]}
        wanted = {"filter": {"event": {"name": [name]}, "any_resource": of_run}}
        return process_platform.rest("POST", "/events/filter", wanted).json()["events"]

    # Its worker sends this once the job's process has ended, and with it what the job sends.
    wait_until(lambda: events("prefect.worker.executed-flow-run"), what="its events are there")
    assert events("prefect.flow-run.heartbeat") == []


def test_events_are_kept_for_a_day(process_platform: Platform) -> None:
    settings = process_platform.rest("GET", "/admin/settings").json()
    assert settings["server"]["events"]["retention_period"] == "P1D"


def test_what_a_flow_returns_is_small_json(platform: Platform) -> None:
    job = platform.submit_job("find-primes/high", {"upper_bound": 10}, "receipt")
    folder = platform.completed(job, "receipt")
    key = platform.run(job)["state"]["data"]["storage_key"]
    record = json.loads((platform.results / ".prefect" / key).read_text())
    assert record == {
        "job": str(job),
        "location": str(folder),
        "files": 1,
        "bytes": (folder / "primes.parquet").stat().st_size,
    }


def published(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p.relative_to(folder).as_posix() for p in files if p.name != "manifest.json")


def broken(platform: Platform, job: UUID, directory: str) -> list[str]:
    return [entry["source"] for entry in platform.manifest(job, directory)["summary"]["broken"]]
