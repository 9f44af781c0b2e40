"""A compute task without a server: checked, staged and published as a job's."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from prefect import flow, get_run_logger, task
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.average_files import average_files
from flows.convert_images import convert_images
from flows.find_primes import find_primes
from tasks.contracts import FindPrimes, Payload, Receipt, ResultsDirectory, Source
from tasks.errors import CorruptResult, InvalidPayload, OperatorError, SourceNotFound
from tasks.locally import run_locally
from tasks.runtime.compute_task import compute_task, open_job
from tasks.runtime.inputs import find_inputs
from tasks.runtime.progress import show_progress
from tests.support.images import photo


class Greet(Payload):
    """Whom to greet."""

    source: Source
    fault: str = ""


@task
async def prefects_own() -> None:
    """A task of Prefect's, which no run without a server can have."""


@compute_task("greet", fresh_container=True)
async def greet(payload: Greet, results_directory: ResultsDirectory) -> Receipt:
    """Write a greeting for each name in the source."""
    async with open_job(results_directory) as job:
        get_run_logger().info("greeting")
        async with show_progress("greeting") as progress:
            for file in await find_inputs(payload.source):
                async with file.local(job.stage.scratch) as path:
                    text = f"hello {path.read_text()}"
                    (job.stage.files / file.name).write_text(text)
                progress.set(1.0)
        match payload.fault:
            case "prefect":
                await prefects_own()
            case "bug":
                raise ZeroDivisionError("a bug")
            case "unpublished":
                return Receipt(job=job.id, location="nowhere", files=0, bytes=0)
            case _:
                pass
        return await job.publish({"greeted": 1}, "**hello**")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "name.txt").write_text("Ada")
    return folder


@pytest.fixture(autouse=True)
def nothing_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is asked, and none is started, even where one is named."""

    def connect(self: socket.socket, address: object) -> NoReturn:
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)


def stages(folder: Path) -> list[Path]:
    return [path for path in (folder / ".staging").iterdir() if path.is_dir()]


def test_the_result_is_published_as_a_jobs(tmp_path: Path, inputs: Path) -> None:
    results = tmp_path / "results"
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        result = run_locally(greet, {"source": "*.txt"}, results, inputs=inputs)
    manifest = result.manifest
    place = results / "greet" / str(manifest.job)
    assert result.location == str(place)
    assert (place / "name.txt").read_text() == "hello Ada"
    assert json.loads((place / "manifest.json").read_text())["task"] == "greet"
    assert manifest.summary == {"greeted": 1}
    assert manifest.parameters == {"payload": {"source": "*.txt"}, "results_directory": "greet"}
    assert [(file.path, file.bytes) for file in manifest.files] == [("name.txt", 9)]
    assert stages(results) == []
    result.verify()
    (place / "name.txt").write_text("hello Eve")
    with pytest.raises(CorruptResult):
        result.verify()


def test_a_job_that_has_a_result_is_not_run_again(tmp_path: Path, inputs: Path) -> None:
    job = uuid4()
    first = run_locally(greet, {"source": "name.txt"}, tmp_path, inputs=inputs, job=job)
    (inputs / "name.txt").unlink()
    again = run_locally(greet, {"source": "name.txt"}, tmp_path, inputs=inputs, job=job)
    assert again.manifest == first.manifest


def test_a_payload_may_be_of_its_class(tmp_path: Path) -> None:
    result = run_locally(find_primes, FindPrimes(upper_bound=10), str(tmp_path))
    assert result.manifest.parameters["payload"] == {"upper_bound": 10}
    table = pq.read_table(Path(result.location) / "primes.parquet")  # pyright: ignore[reportUnknownMemberType]
    assert table["prime"].to_pylist() == [2, 3, 5, 7]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "payload.*'upper_bound' is a required property"),
        ({"upper_bound": 1}, "payload.upper_bound.*1 is less than the minimum of 2"),
        ({"upper_bound": 2.5}, "payload.upper_bound.*2.5 is not of type 'integer'"),
        ({"upper_bound": 10, "more": 1}, r"payload.*'more' was unexpected"),
        ({"upper_bound": {10}}, "the payload is not JSON"),
        ({"upper_bound": float("nan")}, "the payload is not JSON"),
    ],
)
def test_a_payload_is_checked_as_at_the_server(
    tmp_path: Path, payload: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidPayload, match=message):
        run_locally(find_primes, payload, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_payload_is_checked_as_in_a_job(tmp_path: Path) -> None:
    with pytest.raises(InvalidPayload, match=r"'source or generate' is a required property"):
        run_locally(average_files, {}, tmp_path)
    with pytest.raises(InvalidPayload, match=r"^results_directory: '../x' is not a results dir"):
        run_locally(find_primes, {"upper_bound": 10}, tmp_path, results_directory="../x")


def test_an_error_of_ours_is_raised_and_leaves_nothing(tmp_path: Path, inputs: Path) -> None:
    results = tmp_path / "results"
    with pytest.raises(SourceNotFound, match="source 'none' names no file under the inputs root"):
        run_locally(greet, {"source": "none"}, results, inputs=inputs)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_locally(greet, {"source": "*", "fault": "bug"}, results, inputs=inputs)
    assert stages(results) == []
    assert not (results / "greet").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("prefect", "calls Prefect's API.*run_locally has no server"),
        ("unpublished", r"greet has published nothing: its last line is `return await job.publish"),
    ],
)
def test_what_a_task_must_not_do(tmp_path: Path, inputs: Path, fault: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        run_locally(greet, {"source": "*", "fault": fault}, tmp_path / "results", inputs=inputs)


def test_a_flow_that_is_no_compute_task(tmp_path: Path) -> None:
    @flow
    async def plain(payload: Greet, results_directory: str) -> None:
        """Nothing of ours."""

    with pytest.raises(OperatorError, match="plain is no compute task: decorate it with @compute"):
        run_locally(plain, {"source": "x"}, tmp_path)


async def test_within_an_event_loop(tmp_path: Path) -> None:
    run = asyncio.to_thread(run_locally, find_primes, {"upper_bound": 10}, tmp_path)
    other = asyncio.to_thread(run_locally, find_primes, {"upper_bound": 20}, tmp_path)
    found = [result.manifest.summary["count"] for result in await asyncio.gather(run, other)]
    assert found == [4, 8]


def test_pictures(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    photo(32, 24).save(tmp_path / "inputs" / "a.jpg")
    payload = {"source": "a.jpg", "format": "webp"}
    result = run_locally(convert_images, payload, tmp_path / "r", inputs=tmp_path / "inputs")
    assert [file.path for file in result.manifest.files] == ["a.webp"]


@pytest.mark.thorough  # it compiles its loops
def test_a_task_that_shares_its_work_on_a_server_does_it_alone(tmp_path: Path) -> None:
    files = {"files": 4, "numbers": 3, "seed": 1}
    payload = {"generate": files, "workers": 3, "partition": 1}
    summary = run_locally(average_files, payload, tmp_path).manifest.summary
    assert (summary["files"], summary["runs"]) == (4, 1)
