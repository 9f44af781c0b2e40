"""What all writes to S3 share: over no other object, and without leaving unfinished parts."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.storage.s3_errors import error_code, s3_errors, status

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

TAKEN = (409, 412)
"""Statuses with which S3 answers a conditional write: another is under way, or was first."""
_NO_CONDITIONS = 501  # answer of stores that know no conditional write
_NO_UPLOADS = ("NoSuchUpload", "NotImplemented")  # of stores that have, or list, none


def write_if_new(write: Callable[..., Any]) -> None:
    """Write with `If-None-Match: *`, or without where the store knows no such condition.

    `write`: a method of the S3 client with all other arguments. Raises its errors.
    """
    try:
        write(IfNoneMatch="*")
    except s3_errors() as error:
        if status(error) != _NO_CONDITIONS:
            raise
        write()


def abort_uploads(
    client: "S3Client", bucket: str, prefix: str, before: datetime | None = None
) -> None:
    """Abort unfinished multipart uploads, where the store lists them.

    `before`: only those that were begun before this time. Raises the errors of the S3 client.
    """
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    try:
        uploads = [upload for page in pages for upload in page.get("Uploads", [])]
    except s3_errors() as error:
        if error_code(error) not in _NO_UPLOADS:
            raise
        return
    for upload in uploads:
        if before is None or ("Initiated" in upload and upload["Initiated"] < before):
            client.abort_multipart_upload(
                Bucket=bucket, Key=upload.get("Key", ""), UploadId=upload.get("UploadId", "")
            )
