"""What compute flows are declared with to keep their return values."""

from pathlib import Path
from uuid import uuid4

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore, aresolve_result_storage
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.pools import job_template
from tasks.contracts import Pool
from tasks.settings import RESULT_BLOCK_VARIABLE, Settings
from tasks.storage.return_values import result_storage
from tests.support.platform import free_port

DOCUMENT = uuid4()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results root in force."""
    monkeypatch.setenv("PREFECTURE_RESULTS_ROOT", str(tmp_path))
    monkeypatch.delenv(RESULT_BLOCK_VARIABLE, raising=False)
    return tmp_path


def test_without_a_saved_block_it_is_the_folder(root: Path) -> None:
    assert result_storage() == root / ".prefect"


async def test_the_saved_block_is_known_without_a_server(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RESULT_BLOCK_VARIABLE, str(DOCUMENT))
    # As the engine resolves it, which asks the server where it is given the name of a block.
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        block = await aresolve_result_storage(result_storage())
    assert isinstance(block, LocalFileSystem)
    store = ResultStore(result_storage=block)
    assert store.result_storage_block_id == DOCUMENT
    await store.awrite({"files": 1}, key="returned")
    assert (root / ".prefect" / "returned").is_file()


@pytest.mark.parametrize("pool", [Pool.DOCKER, Pool.PROCESS])
def test_jobs_get_the_block(root: Path, pool: Pool) -> None:
    environment = job_template(pool, Settings(), None, block=DOCUMENT)["job_configuration"]["env"]
    assert environment[RESULT_BLOCK_VARIABLE] == str(DOCUMENT)
    environment = job_template(pool, Settings(), None)["job_configuration"]["env"]
    assert RESULT_BLOCK_VARIABLE not in environment
