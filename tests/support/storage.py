"""Real S3 servers for tests: moto's, which knows conditional writes, and rclone's, on a folder."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from botocore.config import Config
from moto.server import ThreadedMotoServer
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.credentials import AwsCredentials
from pydantic import SecretStr

from tests.support.platform import BIN, Platform, free_port, http
from tests.support.servers import running

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KEYS = {"access": "a-key-for-tests", "secret": "a-secret-for-tests"}


def client_of(
    address: str,
    keys: tuple[str, str] = (KEYS["access"], KEYS["secret"]),
    # rclone answers 500 now and then where two files come for one new folder.
    tries: int = 4,
    **settings: int,
) -> "S3Client":
    """A client with the tests' keys, or others."""
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": tries},
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            **settings,  # pyright: ignore[reportArgumentType]  # timeouts, in seconds
        ),
    )


def save_aws_block(platform: Platform, name: str, endpoint: str, **config: Any) -> None:
    """Credentials for an S3 server with the tests' keys, on the server of a platform.

    `config`: settings of the client, such as its time limits.
    """
    with temporary_settings({PREFECT_API_URL: platform.api}):
        AwsCredentials(
            aws_access_key_id=KEYS["access"],
            aws_secret_access_key=SecretStr(KEYS["secret"]),
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters(endpoint_url=endpoint, config=config or None),
        ).save(name, overwrite=True)


@contextmanager
def moto_server() -> Generator[str]:
    """The address of an S3 server that knows conditional writes and keeps all in memory."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        yield address
    finally:
        # Its memory is the process's: the next one would begin with these buckets.
        http().post(f"{address}/moto-api/reset")
        server.stop()


@contextmanager
def moto_with(bucket: str) -> Generator[str]:
    """The address of a moto_server that has a bucket."""
    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket=bucket)
        client.close()
        yield address


@contextmanager
def rclone_server(folder: Path) -> Generator[str]:
    """The address of an S3 server whose buckets are the folders in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = (
        *("/usr/bin/env", "RCLONE_CONFIG=/dev/null"),
        *(str(BIN / "rclone"), "serve", "s3", str(folder), "--addr", address),
        *("--auth-key", f"{KEYS['access']},{KEYS['secret']}"),
    )

    def answers() -> bool:
        try:
            return http().get(f"http://{address}").status_code > 0
        except httpx.ConnectError:
            return False

    with running("rclone", command, folder.parent / "rclone.log", answers):
        yield f"http://{address}"
