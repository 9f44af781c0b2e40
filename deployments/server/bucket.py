"""python -m deployments.server.bucket ADDRESS

Prepares the S3 store of compose.yaml: makes the bucket of PREFECTURE_RESULTS_ROOT, and saves the
keys of the store as the block that PREFECTURE_S3_CREDENTIALS names. boto3 reads the keys from the
environment.
"""

from tasks.runtime.importing import importing

with importing():
    import asyncio
    import sys
    from pathlib import Path

    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
    from prefect_aws.client_parameters import AwsClientParameters
    from prefect_aws.credentials import MinIOCredentials
    from pydantic import SecretStr

    from deployments.connection import connect
    from tasks.errors import OperatorError, PrefectureError
    from tasks.settings import Settings, get_settings

_KIND = "minio-credentials"
_REGION = "us-east-1"
_THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


async def prepare(settings: Settings, address: str) -> str:
    """Make the bucket and save the block. Idempotent. Returns the name of the bucket."""
    kind, _, name = (settings.s3_credentials or "").partition("/")
    if isinstance(settings.results, Path) or kind != _KIND:
        raise OperatorError(
            "the profile s3 is for results in S3: set PREFECTURE_RESULTS_ROOT to "
            f"s3://bucket/prefix and PREFECTURE_S3_CREDENTIALS to {_KIND}/store"
        )
    session = boto3.Session(region_name=_REGION)
    keys = session.get_credentials()
    if keys is None or not keys.secret_key:
        raise OperatorError("the store has no password: set S3_SECRET_KEY")
    client = session.client("s3", endpoint_url=address)
    try:
        client.create_bucket(Bucket=settings.results.bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _THERE:
            raise OperatorError(f"the store at {address} makes no bucket: {error}") from error
    except BotoCoreError as error:
        raise OperatorError(f"the store at {address} does not answer: {error}") from error
    finally:
        client.close()
    block = MinIOCredentials(
        minio_root_user=keys.access_key,
        minio_root_password=SecretStr(keys.secret_key),
        region_name=_REGION,
        aws_client_parameters=AwsClientParameters(endpoint_url=address),
    )
    async with connect():
        await block.asave(name, overwrite=True)
    return settings.results.bucket


def main() -> None:
    """Prepare the store; an error is one line, and exit code 1."""
    (address,) = sys.argv[1:]
    try:
        bucket = asyncio.run(prepare(get_settings(), address))
    except PrefectureError as error:
        sys.exit(f"prefecture: {error}")
    print(f"the bucket {bucket} is there")


if __name__ == "__main__":
    main()
