"""Classifies errors of the S3 client: transient, or to be corrected. Does not import Prefect."""

from functools import cache
from typing import Any

_TRANSIENT_STATUS = (408, 429)  # and 500 and above, except 501
_NOT_IMPLEMENTED = 501
_TRANSIENT_CODES = ("RequestTimeout", "SlowDown", "Throttling")
_REASONS = {
    "NoSuchBucket": "the bucket does not exist",
    "404": "the bucket does not exist",
    "AccessDenied": "access is denied to that key",
    "403": "access is denied to that key",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the session token has expired: renew it",
    "RequestTimeTooSkewed": "the clock of this host differs from S3's: set it",
}
_REASONS_OF_LISTS = {
    **_REASONS,
    "AccessDenied": "access is denied: let the credentials list the bucket (s3:ListBucket)",
    "403": "access is denied: let the credentials list the bucket (s3:ListBucket)",
    "AllAccessDisabled": "access is disabled by its owner",
}

_REASONS_OF_OBJECTS = {
    "AccessDenied": "access is denied: let the credentials read it",
    "403": "access is denied: let the credentials read it",
    "AllAccessDisabled": "access is disabled by its owner",
    "NoSuchKey": "it does not exist any more",
    "404": "it does not exist any more",
    "NoSuchVersion": "it does not exist any more",
    "InvalidObjectState": "it is archived (Glacier): restore it first",
    "KMS.DisabledException": "its encryption key is disabled",
    "KMS.NotFoundException": "its encryption key does not exist any more",
    "KMS.KMSInvalidStateException": "its encryption key cannot be used",
    "InvalidRequest": "S3 refuses the request, as of an object encrypted with a customer's key",
    "400": "S3 refuses the request, as of an object encrypted with a customer's key",
}


@cache
def s3_errors() -> tuple[type[Exception], ...]:
    """All exception classes of the S3 client, imported on the first call: the import is heavy."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import S3DownloadFailedError

    return (Boto3Error, BotoCoreError, ClientError, S3DownloadFailedError)


def is_transient(error: Exception) -> bool:
    """Whether the error is transient: a retry may succeed."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
    )

    error = _cause(error)
    if isinstance(error, ClientError):
        if status(error) >= 500:
            return status(error) != _NOT_IMPLEMENTED
        return status(error) in _TRANSIENT_STATUS or error_code(error) in _TRANSIENT_CODES
    return isinstance(error, Boto3Error | ConnectionError | HTTPClientError | IncompleteReadError)


def status(error: Exception) -> int:
    """The HTTP status of S3's answer; 0 where there was none."""
    return _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def error_code(error: Exception) -> str:
    """S3's own error code; empty where there was no answer."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def reason(error: Exception) -> str:
    """Why S3 refused a request to a bucket, in a few words."""
    return _REASONS.get(error_code(error), text(error))


def reason_of_list(error: Exception) -> str:
    """Why S3 refused to list a bucket, in a few words, with S3's error code."""
    code = error_code(error)
    known = _REASONS_OF_LISTS.get(code)
    return f"{known} ({code})" if known else text(error)


def reason_of_object(error: Exception) -> str:
    """Why S3 refused to give an object, in a few words, with S3's error code."""
    code = error_code(error)
    known = _REASONS_OF_OBJECTS.get(code)
    return f"{known} ({code})" if known else text(error)


def text(error: Exception) -> str:
    """The client's error message, in one line."""
    error = _cause(error)
    return " ".join(str(getattr(error, "last_exception", error)).split())


def _cause(error: Exception) -> Exception:
    """The S3 error itself, where the client wraps it in S3UploadFailedError."""
    from boto3.exceptions import S3UploadFailedError

    cause = error.__cause__ or error.__context__
    wrapped = isinstance(error, S3UploadFailedError) and isinstance(cause, s3_errors())
    return cause if wrapped and isinstance(cause, Exception) else error


def _response(error: Exception) -> dict[str, dict[str, Any]]:
    return getattr(_cause(error), "response", None) or {}  # None where the connection was lost
