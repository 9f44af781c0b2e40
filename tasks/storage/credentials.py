"""S3 clients with the credentials block that the settings name."""

import asyncio
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block

from tasks.errors import OperatorError, StorageUnavailable
from tasks.storage.s3_errors import is_transient, s3_errors, text

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from prefect_aws.credentials import AwsCredentials, MinIOCredentials

# The client retries once and at once, for a lost packet. Longer faults are retried by
# tasks.runtime.retries, which the UI shows and which waits without a thread. The client's default
# of five tries, ten for a body, would multiply with these, unseen.
TRIES = 2
_CLIENT_CONFIG: dict[str, Any] = {
    "retries": {"total_max_attempts": TRIES},
    # Seconds. The client's default, a minute each, would use up the time allowed for retries.
    "connect_timeout": 10,
    "read_timeout": 20,
    "signature_version": "s3v4",  # for links too, which the client signs with v2 by default
    # Not every S3 store knows the client's newer checksums; the manifest has its own.
    "request_checksum_calculation": "when_required",
}


async def load_credentials(name: str | None) -> "AwsCredentials | MinIOCredentials":
    """Load the credentials block that PREFECTURE_S3_CREDENTIALS names.

    Raises OperatorError where `name` is None, or the server has no block of that name.
    """
    if name is None:
        raise OperatorError(
            "s3:// addresses need credentials: save an AwsCredentials or MinIOCredentials block "
            "and set PREFECTURE_S3_CREDENTIALS to its name, e.g. aws-credentials/photos"
        )
    # This registers the block types. It is heavy, so it is imported only where S3 is used.
    from prefect_aws.credentials import AwsCredentials, MinIOCredentials

    try:
        block = await Block.aload(name)
    except ValueError as error:
        raise OperatorError(
            f"there is no block {name} on the Prefect server: save it, or correct "
            "PREFECTURE_S3_CREDENTIALS"
        ) from error
    assert isinstance(block, AwsCredentials | MinIOCredentials)  # the setting's pattern ensures it
    return block


async def s3_client(name: str | None) -> "S3Client":
    """Make a client with the credentials of the block of this name.

    Raises OperatorError where there is no such block or AWS refuses it, StorageUnavailable where
    AWS does not answer.
    """
    block = await load_credentials(name)
    parameters = block.aws_client_parameters
    parameters.config = _CLIENT_CONFIG | (parameters.config or {})  # the block's values win
    try:
        return await asyncio.to_thread(block.get_s3_client)  # calls AWS where it assumes a role
    except s3_errors() as error:
        if is_transient(error):
            raise StorageUnavailable(
                f"S3 does not answer for {name}: {text(error)}: try again later"
            ) from error
        raise OperatorError(f"S3 refuses {name}: {text(error)}: correct the block") from error
