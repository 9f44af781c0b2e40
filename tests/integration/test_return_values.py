"""What a job's flow returns, kept in a saved block and read by Prefect's own client."""

import gc
from typing import Any

import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.support.platform import Platform, post


def saved_blocks(platform: Platform) -> dict[str, dict[str, Any]]:
    """The blocks that the UI lists, by their full names."""
    found: Any = post(platform.api, "/block_documents/filter")
    return {f"{one['block_type']['slug']}/{one['name']}": one for one in found}


# Prefect leaves the client open that it reads a block with.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_return_value_is_read_through_the_saved_block(platform: Platform) -> None:
    job = platform.submit_job("find-primes/high", {"upper_bound": 100}, "returned")
    folder = platform.completed(job, "returned")
    block = saved_blocks(platform)["local-file-system/prefecture-results"]
    assert block["data"] == {"basepath": str(platform.results / ".prefect")}
    with temporary_settings({PREFECT_API_URL: platform.api}):
        async with get_client() as client:
            state = (await client.read_flow_run(job)).state
        assert state is not None
        value = await state.aresult()
    gc.collect()  # in this test, and not in another
    (file,) = folder.glob("*.parquet")
    assert value == {
        "job": str(job),
        "location": str(folder),
        "files": 1,
        "bytes": file.stat().st_size,
    }
    record = platform.run(job)["state"]["data"]
    assert record["storage_block_id"] == block["id"]
    assert (platform.results / ".prefect" / record["storage_key"]).is_file()
