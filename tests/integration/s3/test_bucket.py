"""What prepares the S3 store of compose.yaml."""

import asyncio
import os
import subprocess
import sys

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.server.bucket import prepare
from tasks.errors import OperatorError
from tasks.settings import Settings
from tasks.storage.credentials import load_credentials
from tests.support.platform import Platform
from tests.support.storage import KEYS, client_of, moto_server

BLOCK = "minio-credentials/store-of-compose"


def test_a_bucket_and_a_block(process_platform: Platform) -> None:
    with moto_server() as address:
        env = os.environ | {
            "AWS_ACCESS_KEY_ID": KEYS["access"],
            "AWS_SECRET_ACCESS_KEY": KEYS["secret"],
            "PREFECT_API_URL": process_platform.api,
            "PREFECTURE_RESULTS_ROOT": "s3://results/team",
            "PREFECTURE_S3_CREDENTIALS": BLOCK,
        }
        for _ in range(2):  # at each start of the services
            command = [sys.executable, "-m", "deployments.server.bucket", address]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (0, "the bucket results is there\n"), (
                done.stderr
            )
        client = client_of(address)
        assert [bucket.get("Name") for bucket in client.list_buckets()["Buckets"]] == ["results"]
        client.close()
    with temporary_settings({PREFECT_API_URL: process_platform.api}):
        block = asyncio.run(load_credentials(BLOCK))
    assert block.minio_root_user == KEYS["access"]  # pyright: ignore


def test_results_in_a_folder_need_none() -> None:
    with pytest.raises(OperatorError, match="set PREFECTURE_RESULTS_ROOT to s3://bucket/prefix"):
        asyncio.run(prepare(Settings(), "http://127.0.0.1:9"))
