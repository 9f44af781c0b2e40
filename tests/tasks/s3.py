"""A client for the tests of s3:// sources, and what each of their messages must keep."""

from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from tasks.errors import PrefectureError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "photos"
SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"


def client_of(address: str) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        # No second attempts: what is tested here fails the same way each time.
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=60, read_timeout=120),
    )


def check_message(refused: pytest.ExceptionInfo[PrefectureError], *holds: str) -> None:
    message = str(refused.value)
    assert "\n" not in message
    assert all(part in message for part in holds)
    assert SECRET not in message
    assert KEY_ID not in message
