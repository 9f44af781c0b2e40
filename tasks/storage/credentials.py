"""S3 clients, made with the credentials block that the settings name."""

import asyncio
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block

from tasks.errors import OperatorError, StorageUnavailable
from tasks.storage.s3_errors import is_transient, s3_errors, text

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from prefect_aws.credentials import AwsCredentials, MinIOCredentials

# Who retries: the client once more and at once, for the odd lost packet; the
# retries of tasks.runtime.retries for all that lasts: the UI shows them, and they wait without a
# thread. The client's own five tries, ten for a body, would multiply with them, unseen.
TRIES = 2
_CLIENT_CONFIG: dict[str, Any] = {
    "retries": {"total_max_attempts": TRIES},
    # Seconds; the client's own, a minute each, would use up a step's patience.
    "connect_timeout": 10,
    "read_timeout": 20,
    "signature_version": "s3v4",  # for links too, which the client would sign by the old one
    # Not every S3 knows the client's newer checksums; ours are in the manifest.
    "request_checksum_calculation": "when_required",
}


async def load_credentials(name: str | None) -> "AwsCredentials | MinIOCredentials":
    """The credentials block that PREFECTURE_S3_CREDENTIALS names.

    Raises OperatorError where it names none, or one that the server does not have.
    """
    if name is None:
        raise OperatorError(
            "s3:// addresses need credentials: save an AwsCredentials or MinIOCredentials block "
            "and set PREFECTURE_S3_CREDENTIALS to its name, e.g. aws-credentials/photos"
        )
    # Registers the block types; heavy, so imported only where S3 is named.
    from prefect_aws.credentials import AwsCredentials, MinIOCredentials

    try:
        block = await Block.aload(name)
    except ValueError as error:
        raise OperatorError(
            f"there is no block {name} on the Prefect server: save it, or correct "
            "PREFECTURE_S3_CREDENTIALS"
        ) from error
    assert isinstance(block, AwsCredentials | MinIOCredentials)  # the setting's pattern says so
    return block


async def s3_client(name: str | None) -> "S3Client":
    """A client with the credentials that a block of this name holds.

    Raises OperatorError where there is no such block or AWS refuses it, StorageUnavailable where
    AWS does not answer.
    """
    block = await load_credentials(name)
    parameters = block.aws_client_parameters
    parameters.config = _CLIENT_CONFIG | (parameters.config or {})  # whoever made it knows better
    try:
        return await asyncio.to_thread(block.get_s3_client)  # asks AWS where it assumes a role
    except s3_errors() as error:
        if is_transient(error):
            raise StorageUnavailable(
                f"S3 does not answer for {name}: {text(error)}: try again later"
            ) from error
        raise OperatorError(f"S3 refuses {name}: {text(error)}: correct the block") from error
